"""Files that grow line by line and are rotated by renaming, at random moments, also while the daemon is down."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from pathlib import Path

from tests.chaos.book import Book, message

_TICK = 0.05  # seconds between two pieces


class Tailed:
    """One file `app.log` in `directory`, to which about `rate` lines a second are written until `finish`.

    `glob` is what the input `name` has to follow. Where it matches the rotated names too (`quick`), a file may come and
    be renamed before anybody saw it. Else `may_rotate` says when the file under its first name has been seen, or is
    nobody's to see because the daemon is down.
    """

    def __init__(self, book: Book, directory: Path, name: str, rate: float, seed: int, *, quick: bool) -> None:
        self.name = name
        self.rotations = 0
        self.may_rotate: Callable[[Tailed], bool] = lambda _: True
        self.before = 0  # lines in the files before this one
        self._book, self._rate, self._quick = book, rate, quick
        self._rng = random.Random(seed)
        self._path = directory / name / "app.log"
        self._path.parent.mkdir(parents=True)
        self._path.touch()
        self._finishing = False

    @property
    def glob(self) -> str:
        """Of all the names that the file ever has, or of its first one."""
        return f"{self._path}*" if self._quick else str(self._path)

    @property
    def lines(self) -> int:
        """Written so far."""
        return self._book.sent(self.name)

    async def run(self) -> None:
        """Until `finish`."""
        while not self._finishing:
            self._write(self._rng.randrange(int(2 * self._rate * _TICK) + 1))
            if self._rng.random() < _TICK and (self._quick or self.may_rotate(self)):
                self._rotate()
            await asyncio.sleep(_TICK)

    def finish(self) -> None:
        """No more lines from now on."""
        self._finishing = True

    def _write(self, count: int) -> None:
        """So many lines; a reader may see the half of one."""
        with self._path.open("a") as file:
            for number in self._book.write(self.name, count):
                text = self._line(number)
                middle = self._rng.randrange(len(text))
                file.write(text[:middle])
                if self._rng.random() < 0.02:
                    file.flush()
                file.write(text[middle:])
        self._book.acknowledge(self.name, range(self.lines - count, self.lines))

    def _line(self, number: int) -> str:
        text = message(self._rng, self.name, number)
        return (json.dumps({"message": text, "log_level": "INFO"}) if self._quick else text) + "\n"

    def _rotate(self) -> None:
        self.rotations += 1
        self._path.rename(self._path.with_name(f"app.log.{self.rotations}"))
        self._path.touch()
        self.before = self.lines
