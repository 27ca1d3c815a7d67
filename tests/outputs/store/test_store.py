"""The embedded store as an output: durable, visible, never double, bounded."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from mcp_ingest.component import ByteSize, Duration
from mcp_ingest.context import Context
from mcp_ingest.engine.search import checks, store
from mcp_ingest.errors import OutputError
from mcp_ingest.event import Batch, Origin
from mcp_ingest.outputs.store import Store, parts, shelf
from mcp_ingest.verdict import AllDelivered, Part, Request, Unknown

DAY = parts.DAY
NOON = 20_779 * DAY + DAY // 2  # 2026-11-22T12:00:00Z
TODAY = "2026-11-22"


class Clock:
    """A clock that is set by hand."""

    def __init__(self, time_ns: int = NOON) -> None:
        self.now = time_ns

    def time_ns(self) -> int:
        return self.now

    def monotonic(self) -> float:
        return self.now / parts.SECOND


def context(clock: Any = None) -> Context:
    """What the store is handed."""
    return Context(name="store", clock=clock) if clock else Context(name="store")


def config(directory: Path, **settings: Any) -> Store.Config:
    """Settings with quick commits."""
    return Store.Config(**{"directory": str(directory), "commit_seconds": Duration(0.02), **settings})


def chunk(number: int, texts: Sequence[str], day: str = TODAY, start: int = NOON) -> Part:
    """A chunk with a message for each text, a second apart."""
    count = len(texts)
    return Part(
        f"{'ab' * 16}-{number}",
        [f"event-{number}-{index}" for index in range(count)],
        [start + index * parts.SECOND for index in range(count)],
        ["mcp.test"] * count,
        [day] * count,
        [orjson.dumps({"@timestamp": "…", "tag": "mcp.test", "message": text, "number": number}) for text in texts],
    )


def messages(directory: Path) -> list[str]:
    """Every message in the store, oldest first."""
    found = store.search(directory, checks.Everything(), checks.Between(None, None), 10_000, newest_first=False)
    assert found.total == len(found.hits)
    return [hit.event["message"] for hit in found.hits]


def names(directory: Path, pattern: str) -> list[str]:
    """The names of what fits a pattern."""
    return [path.name for path in directory.glob(pattern)]


async def test_what_is_answered_is_found_and_whole(tmp_path: Path) -> None:
    """An answered event is there for another reader at once, as it was written."""
    output = Store(config(tmp_path), context())
    await output.start()
    assert await output.write(Request([chunk(1, ["one", "two"]), chunk(2, ["three"])])) == AllDelivered()
    assert sorted(messages(tmp_path)) == ["one", "three", "two"]
    await output.close()
    assert sorted(messages(tmp_path)) == ["one", "three", "two"]


async def test_a_redelivered_chunk_replaces(tmp_path: Path) -> None:
    """A chunk that comes again, at once, later or after a restart, is there once."""
    output = Store(config(tmp_path), context())
    await output.start()
    await asyncio.gather(*(output.write(Request([chunk(1, ["one", "two"])])) for _ in range(3)))
    await output.write(Request([chunk(1, ["one", "two"]), chunk(2, ["three"]), chunk(1, ["one", "two"])]))
    await output.close()
    again = Store(config(tmp_path), context())
    await again.start()
    await again.write(Request([chunk(2, ["three"])]))
    await again.close()
    assert sorted(messages(tmp_path)) == ["one", "three", "two"]


async def test_a_chunk_is_replaced_in_a_finished_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk that lies in a finished part and in another day is found there and replaced."""
    monkeypatch.setattr(shelf, "PART_EVENTS", 3)
    output = Store(config(tmp_path), context())
    await output.start()
    mixed = chunk(1, ["one", "two"])
    mixed.destinations = [TODAY, "2026-11-21"]
    for number in range(2, 6):
        await output.write(Request([mixed, chunk(number, ["a", "b"])]))
    await output.write(Request([mixed]))
    await output.close()
    assert len(parts.places(tmp_path)) > 3
    assert sorted(messages(tmp_path)) == sorted(["one", "two", *["a", "b"] * 4])


async def test_a_chunk_comes_in_pieces(tmp_path: Path) -> None:
    """What a chunk has for another day comes in a request of its own and takes nothing away."""
    output = Store(config(tmp_path), context())
    await output.start()
    for _ in range(2):
        await output.write(Request([chunk(1, ["today"]), chunk(1, ["yesterday"], "2026-11-21")]))
        await output.write(Request([chunk(1, ["undated"], f"undated-{TODAY}")]))
    await output.close()
    assert sorted(messages(tmp_path)) == ["today", "undated", "yesterday"]


async def test_requests_share_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many small requests at once wait for the same commit, the first one after a quiet time for none."""
    commits: list[float] = []
    commit = shelf.Shelf.commit

    def counted(self: shelf.Shelf) -> None:
        commits.append(time.monotonic())
        commit(self)

    monkeypatch.setattr(shelf.Shelf, "commit", counted)
    output = Store(config(tmp_path, commit_seconds=Duration(0.3)), context())
    await output.start()
    started = time.monotonic()
    await output.write(Request([chunk(0, ["first"])]))
    assert time.monotonic() - started < 0.3
    await asyncio.gather(*(output.write(Request([chunk(number, ["x"])])) for number in range(1, 20)))
    assert time.monotonic() - started < 1
    assert len(commits) <= 3
    await output.close()


async def test_visible_within_a_second(tmp_path: Path) -> None:
    """With the default settings an event is found within a second, also in a steady stream."""
    output = Store(Store.Config(directory=str(tmp_path)), context())
    await output.start()
    for number in range(4):
        started = time.monotonic()
        await output.write(Request([chunk(number, [f"message {number}"])]))
        assert f"message {number}" in messages(tmp_path)
        assert time.monotonic() - started < 1
    await output.close()


async def test_a_cancelled_write_does_no_harm(tmp_path: Path) -> None:
    """A request given up by the deadline may come again and is there once; others go on."""
    output = Store(config(tmp_path, commit_seconds=Duration(0.5)), context())
    await output.start()
    await output.write(Request([chunk(0, ["zero"])]))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(output.write(Request([chunk(1, ["one"])])), 0.05)
    await asyncio.gather(output.write(Request([chunk(1, ["one"])])), output.write(Request([chunk(2, ["two"])])))
    await output.close()
    assert sorted(messages(tmp_path)) == ["one", "two", "zero"]


async def test_a_failed_commit_is_unknown_and_heals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a commit fails, all that waited for it is to come again, and then is there once."""
    output = Store(config(tmp_path), context())
    await output.start()

    def full(self: parts.Part) -> None:
        raise ValueError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(parts.Part, "commit", full)
        answers = await asyncio.gather(*(output.write(Request([chunk(number, ["x"])])) for number in (1, 2)))
    assert all(isinstance(answer, Unknown) for answer in answers)
    assert await output.write(Request([chunk(1, ["x"]), chunk(2, ["y"])])) == AllDelivered()
    await output.close()
    assert sorted(messages(tmp_path)) == ["x", "y"]


async def test_a_damaged_part_is_set_aside(tmp_path: Path) -> None:
    """A part that cannot be opened is kept aside, and the store goes on without it."""
    output = Store(config(tmp_path), context())
    await output.start()
    await output.write(Request([chunk(1, ["lost for now"])]))
    await output.close()
    (place,) = parts.places(tmp_path)
    (place.path / "meta.json").write_text("{")
    again = Store(config(tmp_path), context())
    await again.start()
    assert await again.write(Request([chunk(2, ["new"])])) == AllDelivered()
    await again.close()
    assert messages(tmp_path) == ["new"]
    assert names(tmp_path, "*/*.damaged")


async def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    """Two daemons on one folder: the second one's requests stay unanswered, with the reason."""
    first, second = Store(config(tmp_path), context()), Store(config(tmp_path), context())
    await first.start()
    await first.write(Request([chunk(1, ["one"])]))
    await second.start()
    answer = await second.write(Request([chunk(2, ["two"])]))
    assert isinstance(answer, Unknown)
    assert "another process" in answer.why
    await second.close()
    await first.close()
    assert messages(tmp_path) == ["one"]


async def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    """A folder that cannot be made is an OutputError with its name."""
    (tmp_path / "store").write_text("")
    output = Store(config(tmp_path / "store"), context())
    with pytest.raises(OutputError, match="store"):
        await output.start()
    await output.close()


def test_addresses() -> None:
    """An event goes to its day; one without a time or far from its receipt to the undated ones of that day."""
    times = [NOON, NOON - DAY, 0, NOON - 31 * DAY, NOON + 2 * DAY]
    batch = Batch.of(Origin("i", "p" * 20, NOON), "t", times, [{} for _ in times], list(range(5)))
    output = Store(Store.Config(), context())
    undated = f"undated-{TODAY}"
    assert output.address(batch) == [TODAY, "2026-11-21", undated, undated, undated]


async def test_retention_by_age(tmp_path: Path) -> None:
    """A day is dropped whole when its end, or the birth of its part, is older than the retention."""
    clock = Clock()
    output = Store(config(tmp_path, retention=Duration.parse("2d")), context(clock))
    await output.start()
    await output.write(Request([chunk(1, ["old"], "2026-11-10", NOON - 12 * DAY), chunk(2, ["today"])]))
    await output.close()
    for days, expected in ((1, ["old", "today"]), (2.4, ["today"]), (2.6, [])):
        clock.now = NOON + int(days * DAY)
        await output.start()
        await output.close()
        assert messages(tmp_path) == expected
    assert not names(tmp_path, "*")


async def test_retention_by_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the limit the oldest parts go, while writing, and the newest stays."""
    monkeypatch.setattr(shelf, "PART_EVENTS", 10)
    monkeypatch.setattr(shelf, "SWEEP_SECONDS", 0.0)
    output = Store(config(tmp_path, max_bytes=ByteSize(60_000)), context())
    await output.start()
    for number in range(20):
        await output.write(Request([chunk(number, [f"{number} {i}" for i in range(10)], start=NOON + number * DAY)]))
    await output.close()
    left = {int(text.split()[0]) for text in messages(tmp_path)}
    assert 0 < len(left) < 20
    assert left == set(range(20 - len(left), 20))


def test_settings_are_checked() -> None:
    """A heap that tantivy refuses is a mistake in the configuration."""
    assert any("heap" in problem for problem in Store.Config(heap=ByteSize(1)).check())
    assert not Store.Config().check()


_WRITER = """
import asyncio, sys
from pathlib import Path
from tests.outputs.store.test_store import Request, Store, chunk, config, context
async def main():
    output = Store(config(Path(sys.argv[1])), context())
    await output.start()
    number = int(sys.argv[2])
    while True:
        await output.write(Request([chunk(number, [f"{number} {i}" for i in range(20)])]))
        print(number, flush=True)
        number += 1
asyncio.run(main())
"""


def test_kill_nine(tmp_path: Path) -> None:
    """Killed again and again, with what was not answered sent again, the store has every event once."""
    answered = -1
    for round_ in range(5):
        command = [sys.executable, "-c", _WRITER, str(tmp_path), str(answered + 1)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                answered = int(line)
                if answered >= (round_ + 1) * 6:
                    os.kill(process.pid, signal.SIGKILL)
                    break
            for line in process.stdout:
                answered = int(line)
    there = messages(tmp_path)
    assert len(there) == len(set(there))
    expected = {f"{number} {i}" for number in range(answered + 1) for i in range(20)}
    assert expected <= set(there)
