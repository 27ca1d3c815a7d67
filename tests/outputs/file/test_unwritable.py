"""A file that cannot be written waits alone, and its lines are there once and whole when it can."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from mcp_ingest.engine import delivery as engine
from mcp_ingest.outputs.file import journal
from mcp_ingest.spool.model import Intake, NewChunk
from mcp_ingest.verdict import DELIVERED, DUPLICATE, AllDelivered, Each, Park, Request, Unknown
from tests.engine.parts import delivering, spool_in, until
from tests.outputs.file.test_file import chunk, chunks, output


@pytest.mark.parametrize(
    "why", ["Is a directory", "it is no regular file", "Not a directory", "File name too long", "Permission denied"]
)
async def test_a_file_that_cannot_be_written_is_parked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """The others of the request are written; the same again writes only what is not there."""
    good, folder, fifo, file = (tmp_path / name for name in ("good", "folder", "fifo", "file"))
    bad = {
        "Is a directory": folder,
        "it is no regular file": fifo,
        "Not a directory": file / "bad",
        "File name too long": tmp_path / ("x" * 300),
    }.get(why, tmp_path / "secret")
    folder.mkdir()
    os.mkfifo(fifo)
    file.write_text("")
    append = journal._append

    def as_a_user(path: Path, data: bytes) -> None:
        if path.name == "secret":  # root, whom the tests may run as, could write it
            raise PermissionError(errno.EACCES, "Permission denied")
        append(path, data)

    monkeypatch.setattr(journal, "_append", as_a_user)
    archive = output(tmp_path / "a")
    await archive.start()
    answer = await archive.write(Request([chunk(1, [good]), chunk(1, [bad]), chunk(2, [good])]))
    parked = Park(f"the file cannot be written: {why}")
    assert answer == Each([DELIVERED, parked, DELIVERED])
    assert await archive.write(Request([chunk(1, [good]), chunk(1, [bad])])) == Each([DUPLICATE, parked])
    assert await archive.write(Request([chunk(1, [bad])])) == Each([parked])
    await archive.close()
    assert chunks(good) == [1, 2]
    assert json.loads((tmp_path / ".mcp-ingest-archive.json").read_text())["lengths"] == {}


@pytest.mark.parametrize("restart", [False, True])
async def test_what_was_begun_in_it_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restart: bool
) -> None:
    """Where that fails, too, nothing is written behind it until it worked: not now, not after a restart."""
    good, bad = tmp_path / "good", tmp_path / "bad"
    archive = output(tmp_path / "a")
    await archive.start()
    await archive.write(Request([chunk(0, [bad])]))
    append, cut = journal._append, journal._cut

    def torn(path: Path, data: bytes) -> None:
        append(path, data[:5] if path == bad else data)
        if path == bad:
            raise PermissionError(errno.EACCES, "Permission denied")

    def uncut(path: str, length: int) -> None:
        if path == str(bad):
            raise PermissionError(errno.EACCES, "Permission denied")
        cut(path, length)

    parked = Park("the file cannot be written: Permission denied")
    with monkeypatch.context() as patch:
        patch.setattr(journal, "_cut", uncut)
        with monkeypatch.context() as once:
            once.setattr(journal, "_append", torn)
            assert await archive.write(Request([chunk(1, [bad]), chunk(1, [good])])) == Each([parked, DELIVERED])
        assert await archive.write(Request([chunk(1, [bad]), chunk(2, [good])])) == Each([parked, DELIVERED])
        if restart:
            await archive.close()
            await archive.start()
            assert await archive.write(Request([chunk(1, [bad]), chunk(3, [good])])) == Each([parked, DELIVERED])
    if restart:
        await archive.close()
        await archive.start()
    assert await archive.write(Request([chunk(1, [bad])])) == AllDelivered()
    await archive.close()
    assert chunks(bad) == [0, 1]
    assert chunks(good) == [1, 2, 3][: 3 if restart else 2]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
async def test_a_disk_that_is_full_or_fails_is_no_matter_of_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """All waits, and no file has anything of it, also when another one could not be written at all."""
    good, bad, folder = tmp_path / "good", tmp_path / "bad", tmp_path / "folder"
    folder.mkdir()
    archive = output(tmp_path / "a")
    await archive.start()
    append = journal._append

    def full(path: Path, data: bytes) -> None:
        append(path, data[:5] if path == bad else data)
        if path == bad:
            raise OSError(number, "the disk")

    with monkeypatch.context() as patch:
        patch.setattr(journal, "_append", full)
        answer = await archive.write(Request([chunk(1, [folder]), chunk(1, [good]), chunk(1, [bad])]))
    assert answer == Unknown(f"a file cannot be written: [Errno {number}] the disk")
    assert (chunks(good), chunks(bad)) == ([], [])
    assert await archive.write(Request([chunk(1, [good]), chunk(1, [bad])])) == AllDelivered()
    await archive.close()
    assert (chunks(good), chunks(bad)) == ([1], [1])


async def test_it_wakes_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The output goes on meanwhile; each line is in its file once, in order."""
    monkeypatch.setattr(engine, "PARKED", 0.3)
    good, bad = tmp_path / "good", tmp_path / "bad"
    bad.mkdir()

    def of(number: int) -> Intake:
        ids = [f"{number}{place}".ljust(28, "-") for place in "ab"]
        line = json.dumps({"chunk": number}).encode()
        return Intake(chunks=[NewChunk.of("p", 0, ids, ["t"] * 2, [line] * 2, {"out": [str(good), str(bad)]})])

    archive = output(tmp_path / "a")
    async with spool_in(tmp_path / "spool") as spool, delivering(spool, archive) as delivery:
        for number in range(20):
            await spool.commit(of(number))
        await until(lambda: good.exists() and len(chunks(good)) == 20)
        await until(lambda: delivery.parked() == {str(bad): "the file cannot be written: Is a directory"})
        assert delivery.state == "up"
        bad.rmdir()
        await until(lambda: not spool.held("out").events)
        assert delivery.parked() == {}
    await archive.close()
    assert chunks(good) == chunks(bad) == [*range(20)]
