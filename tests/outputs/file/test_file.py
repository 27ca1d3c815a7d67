"""The file output: whole lines, once, over crashes and full disks."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from mcp_ingest.context import Context, Share
from mcp_ingest.errors import OutputError
from mcp_ingest.event import Batch, Origin
from mcp_ingest.outputs.file import File, FileConfig, journal
from mcp_ingest.verdict import DELIVERED, DUPLICATE, AllDelivered, Each, Part, Request, Unknown

SPOOL = "cd" * 16


def output(path: Path | str) -> File:
    """A file output with this path."""
    return File(FileConfig(path=str(path)), Context(name="archive"))


def chunk(number: int, paths: Sequence[Path]) -> Part:
    """A chunk with an event for each path."""
    count = len(paths)
    lines = [json.dumps({"chunk": number, "index": index}).encode() for index in range(count)]
    ids = [f"{number}-{index}" for index in range(count)]
    return Part(f"{SPOOL}-{number}", ids, [1] * count, ["t"] * count, [str(path) for path in paths], lines)


def chunks(path: Path) -> list[int]:
    """The chunk of each line of a file."""
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    assert data.endswith(b"\n") or not data
    return [json.loads(line)["chunk"] for line in data.splitlines()]


async def test_lines_go_to_their_files(tmp_path: Path) -> None:
    """Each event is a line of the file that was settled for it; folders are made."""
    archive = output(tmp_path / "{tag}.ndjson")
    await archive.start()
    first, second = tmp_path / "a.ndjson", tmp_path / "deep" / "b.ndjson"
    answer = await archive.write(Request([chunk(1, [first, second, first]), chunk(2, [first])]))
    await archive.close()
    assert answer == AllDelivered()
    assert (chunks(first), chunks(second)) == ([1, 1, 2], [1])


async def test_gzip_members_are_one_file(tmp_path: Path) -> None:
    """Every request appends a gzip member, and all of them read as one file."""
    path = tmp_path / "a.ndjson.gz"
    archive = output(path)
    await archive.start()
    for number in range(3):
        await archive.write(Request([chunk(number, [path])]))
    await archive.close()
    assert chunks(path) == [0, 1, 2]


async def test_a_redelivered_chunk_is_a_duplicate(tmp_path: Path) -> None:
    """A chunk that was written is known again, also after a restart, and its neighbours are written."""
    path = tmp_path / "a.ndjson"
    archive = output(path)
    await archive.start()
    await archive.write(Request([chunk(1, [path, path])]))
    await archive.close()
    await archive.start()
    answer = await archive.write(Request([chunk(1, [path, path]), chunk(2, [path])]))
    await archive.close()
    assert answer == Each([DUPLICATE, DUPLICATE, DELIVERED])
    assert chunks(path) == [1, 1, 2]


async def test_a_chunk_comes_in_pieces(tmp_path: Path) -> None:
    """What a chunk has for another file, in the same request or in a later one, is no duplicate."""
    first, second, third = (tmp_path / name for name in ("a.ndjson", "b.ndjson", "c.ndjson"))
    archive = output(first)
    await archive.start()
    assert await archive.write(Request([chunk(1, [first]), chunk(1, [second])])) == AllDelivered()
    assert await archive.write(Request([chunk(1, [third])])) == AllDelivered()
    assert await archive.write(Request([chunk(1, [second])])) == Each([DUPLICATE])
    await archive.close()
    assert chunks(first) == chunks(second) == chunks(third) == [1]


async def test_a_torn_line_is_cut_back(tmp_path: Path) -> None:
    """What a crash left behind the committed length is cut off at the start, what stood there before us stays."""
    path = tmp_path / "a.ndjson"
    path.write_text('{"chunk": 0}\n')
    (tmp_path / ".mcp-ingest-archive.json").write_text(json.dumps({"lengths": {str(path): path.stat().st_size}}))
    with path.open("a") as file:
        file.write('{"chunk": 1}\n{"chu')
    archive = output(path)
    await archive.start()
    await archive.write(Request([chunk(1, [path])]))
    await archive.close()
    assert chunks(path) == [0, 1]


async def test_a_full_disk_leaves_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When one file of a request cannot be written, no file has anything of it, and a later try writes all."""
    first, second = tmp_path / "a.ndjson", tmp_path / "b.ndjson"
    archive = output(first)
    await archive.start()
    await archive.write(Request([chunk(0, [first])]))
    append = journal._append

    def full(path: Path, data: bytes) -> None:
        append(path, data[:5] if path == second else data)
        if path == second:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(journal, "_append", full)
        answer = await archive.write(Request([chunk(1, [first, second])]))
    assert isinstance(answer, Unknown)
    assert (chunks(first), chunks(second)) == ([0], [])
    assert await archive.write(Request([chunk(1, [first, second])])) == AllDelivered()
    await archive.close()
    assert (chunks(first), chunks(second)) == ([0, 1], [1])


async def test_a_journal_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the note behind the lines fails, the lines are taken back."""
    path = tmp_path / "a.ndjson"
    archive = output(path)
    await archive.start()
    write, calls = journal.Journal._write, []

    def failing(self: journal.Journal) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        write(self)

    with monkeypatch.context() as patch:
        patch.setattr(journal.Journal, "_write", failing)
        assert isinstance(await archive.write(Request([chunk(1, [path])])), Unknown)
    assert chunks(path) == []
    assert await archive.write(Request([chunk(1, [path])])) == AllDelivered()
    await archive.close()
    assert chunks(path) == [1]


async def test_a_damaged_journal_is_set_aside(tmp_path: Path) -> None:
    """A journal that cannot be read is kept aside, and the output starts."""
    (tmp_path / ".mcp-ingest-archive.json").write_text("{")
    archive = output(tmp_path / "a.ndjson")
    await archive.start()
    await archive.close()
    assert (tmp_path / ".mcp-ingest-archive.damaged").exists()


async def test_two_daemons_on_one_journal(tmp_path: Path) -> None:
    """The second one is refused with a sentence, until the first is gone."""
    first, second = output(tmp_path / "a"), output(tmp_path / "b")
    await first.start()
    with pytest.raises(OutputError, match="another process"):
        await second.start()
    await first.close()
    await second.start()
    await second.close()


async def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """A path below a file is an OutputError, not a crash."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="journal"):
        await output(tmp_path / "file" / "a.ndjson").start()


async def test_many_chunks_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest chunks are remembered, and of the last request all."""
    monkeypatch.setattr(journal, "REMEMBERED", 3)
    path = tmp_path / "a.ndjson"
    archive = output(path)
    await archive.start()
    await archive.write(Request([chunk(number, [path]) for number in range(5)]))
    assert isinstance(await archive.write(Request([chunk(0, [path])])), Each)
    for number in range(5, 9):
        await archive.write(Request([chunk(number, [path])]))
    notes = json.loads((tmp_path / ".mcp-ingest-archive.json").read_text())
    await archive.close()
    assert [key.split(".")[0] for key in notes["pieces"][SPOOL]] == ["6", "7", "8"]


def test_addresses(tmp_path: Path) -> None:
    """The output settles a path for each event."""
    batch = Batch.of(Origin("i", "p" * 20, 10**18), ["a", "b"], [10**18] * 2, [{}, {}], [0, 1])
    assert output("/x/{tag}/{@timestamp:%Y-%m-%d}.gz").address(batch) == ["/x/a/2001-09-09.gz", "/x/b/2001-09-09.gz"]


def test_a_bad_path_is_a_mistake_in_the_configuration() -> None:
    """`check` names the path and what is wrong with it."""
    assert FileConfig(path="/x/{tag").check() == ["path: '/x/{tag' has a brace that belongs to no {field}"]
    assert FileConfig(path="/x/{tag}").check() == []


_WRITER = """
import asyncio, sys
from pathlib import Path
from tests.outputs.file.test_file import Request, chunk, output
folder, number = Path(sys.argv[1]), int(sys.argv[2])
async def main():
    archive = output(folder / "a.ndjson")
    await archive.start()
    count = number
    while True:
        paths = [folder / f"{count % 3}.ndjson", folder / "all.ndjson"] * 500
        await archive.write(Request([chunk(count, paths), chunk(count + 1, paths)]))
        count += 2
        print(count, flush=True)
asyncio.run(main())
"""


def test_kill_nine(tmp_path: Path) -> None:
    """Killed at random moments, with what was not answered sent again, every line is there once and whole."""
    chance, following = random.Random(3), 0
    for _ in range(6):
        command = [sys.executable, "-c", _WRITER, str(tmp_path), str(following)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            following = int(process.stdout.readline())
            time.sleep(chance.random() * 0.05)
            os.kill(process.pid, signal.SIGKILL)
            for line in process.stdout:
                following = int(line)
    asyncio.run(_start_and_stop(tmp_path))
    found = chunks(tmp_path / "all.ndjson")
    assert {found.count(number) for number in range(following)} == {500}
    assert set(map(found.count, set(found))) == {500}


async def _start_and_stop(folder: Path) -> None:
    archive = output(folder / "a.ndjson")
    await archive.start()
    await archive.close()


async def test_two_workers_write_beside_each_other(tmp_path: Path) -> None:
    """Both are open at once, each with a journal and with files of its own."""
    batch = Batch.of(Origin("i", "p" * 20, 1), "t", [1], [{}], [0])
    outputs = [
        File(FileConfig(path=str(tmp_path / "all.ndjson")), Context(name="archive", share=Share(index, 2)))
        for index in range(2)
    ]
    for each in outputs:
        await each.start()
    places = [Path(each.address(batch)[0]) for each in outputs]
    assert places == [tmp_path / "all.ndjson", tmp_path / "worker-1" / "all.ndjson"]
    for number, (each, place) in enumerate(zip(outputs, places, strict=True)):
        assert await each.write(Request([chunk(number, [place])])) == AllDelivered()
        await each.close()
    assert [chunks(place) for place in places] == [[0], [1]]
