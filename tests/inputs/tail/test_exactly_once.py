"""Random appends, rotations, truncations, failures and crashes: each line exactly once, under one id."""

from __future__ import annotations

import asyncio
import os
import random
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.inputs.tail.durable import Durable, tailing, until


class Application:
    """Writes numbered lines into one file, sometimes in pieces, and rotates it."""

    def __init__(self, path: Path, chance: random.Random, keep: int) -> None:
        self.path = path
        self.written: list[str] = []
        self._chance = chance
        self._keep = keep
        self._file = path.open("a")

    def write(self) -> None:
        for _ in range(self._chance.randrange(1, 30)):
            line = f"{self.path.name} {len(self.written)} " + "ü" * self._chance.randrange(0, 200)
            self.written.append(line)
            half = self._chance.randrange(len(line))
            self._file.write(line[:half])
            if self._chance.random() < 0.1:
                self._file.flush()
            self._file.write(line[half:] + self._chance.choice(["\n", "\r\n"]))
        if self._chance.random() < 0.8:
            self._file.flush()

    def rotate(self) -> None:
        """Move everything up by one number, as logrotate does; sometimes the writer notices late."""
        self._file.flush()
        for number in range(self._keep, 0, -1):
            older = self.path.with_name(f"{self.path.name}.{number}")
            if older.exists():
                older.rename(self.path.with_name(f"{self.path.name}.{number + 1}"))
        self.path.rename(self.path.with_name(f"{self.path.name}.1"))
        if self._chance.random() < 0.5:
            self.write()
        self.close()
        self._file = self.path.open("a")

    def may_rotate(self, durable: Durable, glob: str) -> bool:
        """A file that was renamed out of the globs before anybody saw it cannot be found."""
        inode = b'"ino":%d,' % os.fstat(self._file.fileno()).st_ino
        return glob.endswith("*") or any(inode in position for position in durable.positions.values())

    def close(self) -> None:
        self._file.flush()
        self._file.close()


@pytest.mark.parametrize("glob", ["*.log", "*.log*"])
@pytest.mark.parametrize("seed", range(4))
async def test_each_line_exactly_once(seed: int, glob: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever happens, every line is there once, and no id stands for two."""
    monkeypatch.setattr("mcp_ingest.inputs.tail.reader._PAUSE_SECONDS", (0.01, 0.02))
    chance, durable = random.Random(seed), Durable()
    apps = [Application(tmp_path / f"{name}.log", chance, keep=40) for name in "abc"]
    settings: dict[str, Any] = {"rotate_wait_seconds": "1h", "scan_seconds": chance.choice(["30ms", "100ms"])}
    for _ in range(6):
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(tailing(durable, tmp_path / glob, **settings))
            for _ in range(12):
                await _something(chance, apps, durable, glob)
            durable.crashed = chance.random() < 0.7  # nothing that is under way is committed any more
        durable.crashed = durable.failing = False
        for app in apps:  # while it is down
            for _ in range(3):
                _act(chance, app, durable, glob)
    for app in apps:
        app.close()
    expected = sorted(line for app in apps for line in app.written)
    async with tailing(durable, tmp_path / glob, **settings):
        await until(lambda: len(durable.events) >= len(expected))
        await asyncio.sleep(0.2)
    assert sorted(durable.messages) == expected
    assert len({event_id for event_id, _ in durable.events}) == len(expected)


def _act(chance: random.Random, app: Application, durable: Durable, glob: str) -> None:
    if chance.random() < 0.75:
        app.write()
    elif app.may_rotate(durable, glob):
        app.rotate()


async def _something(chance: random.Random, apps: list[Application], durable: Durable, glob: str) -> None:
    _act(chance, chance.choice(apps), durable, glob)
    durable.failing = chance.random() < 0.15
    await asyncio.sleep(chance.choice([0, 0, 0.002, 0.03]))
