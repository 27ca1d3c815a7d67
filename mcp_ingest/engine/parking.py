"""Destinations that take nothing for now, and what rests for them on disk: 8 bytes of memory a chunk.

A closed destination is tried with one chunk after a while; all else for it rests until that is answered.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping


class Parking:
    """What rests of one output, by destination, oldest chunk first."""

    def __init__(self) -> None:
        self._closed: dict[str, float] = {}  # destinations that take nothing, until this monotonic time
        self._why: dict[str, str] = {}
        self._resting: dict[str, _Numbers] = {}  # of open destinations, too, until they are taken up

    def __len__(self) -> int:
        """How many destinations are closed."""
        return len(self._why)

    def clear(self, resting: Mapping[str, array[int]] | None = None) -> None:
        """Begin anew with these chunks at rest, every destination open."""
        self._closed.clear()
        self._why.clear()
        self._resting = {destination: _Numbers(numbers) for destination, numbers in (resting or {}).items()}

    def why(self) -> dict[str, str]:
        """The closed destinations, and what each said: a copy."""
        return dict(self._why)

    def close(self, destination: str, why: str, now: float, until: float) -> bool:
        """It takes nothing; whether that is news."""
        news = destination not in self._why
        if news:
            self._forget(now)
        self._closed[destination] = until
        self._why[destination] = why
        return news

    def open(self, destination: str) -> bool:
        """It took something; whether that is news."""
        self._closed.pop(destination, None)
        return self._why.pop(destination, None) is not None

    def is_closed(self, destination: str, now: float) -> bool:
        """Whether nothing may be sent there now."""
        return self._closed.get(destination, 0.0) > now

    def rest(self, destination: str, chunk: int) -> None:
        """Events of this chunk rest as a pending row."""
        self._resting.setdefault(destination, _Numbers()).append(chunk)

    def take(self, now: float, until: float) -> tuple[str, int, bool] | None:
        """A destination that may be sent to, its oldest chunk at rest, and whether that is a trial.

        A destination that is tried counts as closed `until` then, unless it is closed or opened before.
        """
        for destination, numbers in self._resting.items():
            if self.is_closed(destination, now):
                continue
            number = numbers.pop()
            if not numbers:
                del self._resting[destination]
            trial = destination in self._why
            if trial:
                self._closed[destination] = until
            return destination, number, trial
        return None

    def moment(self, now: float) -> float | None:
        """When `take` has something, None if nothing rests."""
        return min((self._closed.get(destination, now) for destination in self._resting), default=None)

    def forget(self, chunks: set[int]) -> None:
        """These are not owed any more."""
        left = {destination: numbers.without(chunks) for destination, numbers in self._resting.items()}
        self._resting = {destination: numbers for destination, numbers in left.items() if numbers}

    def _forget(self, now: float) -> None:
        """Let go of destinations for which nothing rests any more: a daily index has a new name every day."""
        for destination in [name for name, until in self._closed.items() if until <= now]:
            if destination not in self._resting:
                self.open(destination)


class _Numbers:
    """Chunk numbers, first in first out."""

    def __init__(self, numbers: array[int] | None = None) -> None:
        self._numbers = array("Q") if numbers is None else numbers
        self._start = 0

    def __len__(self) -> int:
        return len(self._numbers) - self._start

    def append(self, number: int) -> None:
        self._numbers.append(number)

    def pop(self) -> int:
        number = self._numbers[self._start]
        self._start += 1
        if self._start * 2 > len(self._numbers):
            del self._numbers[: self._start]
            self._start = 0
        return number

    def without(self, gone: set[int]) -> _Numbers:
        """The others, in their order."""
        return _Numbers(array("Q", [number for number in self._numbers[self._start :] if number not in gone]))
