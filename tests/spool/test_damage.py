"""Each damage and each crash by its name."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from mcp_ingest.errors import SpoolError, SpoolFullError
from mcp_ingest.event import Term
from mcp_ingest.spool import Spool
from mcp_ingest.spool.files import DATABASE
from mcp_ingest.spool.model import OutputKey, Pending, Settlement
from tests.spool.making import chunk, delivered, intake, noise, opened

ES = "elasticsearch"
ALL_REQUIRED = os.environ.get("MCP_TEST_REQUIRE") == "all"


def missing(what: str) -> None:
    """Skip, or fail where everything must be there."""
    if ALL_REQUIRED:
        pytest.fail(what)
    pytest.skip(what)


# --- the database is damaged -------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["not a database", "first page torn", "cut off"])
async def test_a_damaged_database_is_set_aside(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    """The spool starts with a new database, keeps the old one's bytes, and says when it begins and ends with it."""
    async with opened(tmp_path) as spool:
        await spool.commit(intake(chunk(100)))
        first = spool.uuid
    path = tmp_path / DATABASE
    whole = path.read_bytes()
    broken = {
        "not a database": os.urandom(len(whole)),
        "first page torn": whole[:100] + os.urandom(3996) + whole[4096:],
        "cut off": whole[: len(whole) // 2],
    }[damage]
    path.write_bytes(broken)
    with caplog.at_level(logging.INFO):
        async with opened(tmp_path) as spool:
            assert spool.uuid != first
            assert await spool.commit(intake(chunk(1))) == [2]  # its numbers go on
            assert spool.held(ES).events + spool.ledger()[OutputKey(ES, Term.LOST, "damaged spool")] == 101
    assert kept_bytes(tmp_path) == [broken]
    assert len(caplog.records) == 2


def kept_bytes(directory: Path) -> list[bytes]:
    return [(kept / DATABASE).read_bytes() for kept in directory.glob("damaged-*")]


async def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    """A database that is whole but not a spool is an error, and nothing of it changes."""
    with sqlite3.connect(tmp_path / DATABASE) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with pytest.raises(SpoolError, match="not a spool"):
        async with opened(tmp_path):
            pass
    with sqlite3.connect(tmp_path / DATABASE) as connection:
        assert connection.execute("SELECT count(*) FROM theirs").fetchone() == (0,)
    connection.close()


def flip_in_chunk(directory: Path, number: int) -> None:
    with sqlite3.connect(directory / DATABASE) as connection:
        (body,) = connection.execute("SELECT body FROM chunks WHERE number = ?", (number,)).fetchone()
        damaged = bytearray(body)
        damaged[len(body) // 2] ^= 1
        connection.execute("UPDATE chunks SET body = ? WHERE number = ?", (bytes(damaged), number))
    connection.close()


async def test_a_damaged_chunk_is_lost_and_its_neighbours_arrive(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A chunk with a flipped bit goes into quarantine, counts as lost for all that owed it, delivery goes on."""
    async with opened(tmp_path) as spool:
        for _ in range(3):
            await spool.commit(intake(chunk(5, (ES, "archive"))))
    flip_in_chunk(tmp_path, 2)
    async with opened(tmp_path) as spool:
        assert [each.number for each in await spool.fresh(ES, 0, 2**20)] == [1, 3]
        assert spool.ledger()[OutputKey(ES, Term.LOST, "damaged chunk")] == 5
        assert spool.ledger()[OutputKey("archive", Term.LOST, "damaged chunk")] == 5
        assert (spool.held(ES).events, spool.usage().chunks) == (10, 2)
    assert "checksum is wrong" in caplog.text
    with sqlite3.connect(tmp_path / DATABASE) as connection:
        assert connection.execute("SELECT number FROM quarantine").fetchall() == [(2,)]
    connection.close()


async def test_the_last_chunk_damaged_leaves_nobody_waiting_in_circles(tmp_path: Path) -> None:
    """When what an output owes is all damaged, its news wait for the next commit."""
    async with opened(tmp_path) as spool:
        await spool.commit(intake(chunk(5)))
    flip_in_chunk(tmp_path, 1)
    async with opened(tmp_path) as spool:
        assert await spool.chunk(1) is None
        waiting = asyncio.ensure_future(spool.news(ES, 0))
        await asyncio.sleep(0.02)
        assert not waiting.done()
        await spool.commit(intake(chunk(5)))
        assert await waiting == 2


async def test_a_settlement_of_a_chunk_in_quarantine_is_harmless(tmp_path: Path) -> None:
    """Verdicts that arrive for a chunk that went meanwhile leave no row behind."""
    async with opened(tmp_path) as spool:
        await spool.commit(intake(chunk(5)))
        await spool.settle(delivered(ES, 1, 5))
        await spool.settle(delivered(ES, 1, 0, Pending(ES, 1, "logs", [1])))
        assert await spool.pending(ES) == []
        assert spool.held(ES).events == 0


@pytest.mark.parametrize("answered_first", [False, True])
async def test_what_was_under_way_when_its_chunk_went_is_lost_or_delivered_never_both(
    tmp_path: Path, answered_first: bool
) -> None:
    """One output has a chunk from memory, another finds it damaged: what the first delivers is not lost any more."""
    async with opened(tmp_path) as spool:
        for _ in range(3):
            await spool.commit(intake(chunk(5, (ES, "archive"))))
        if answered_first:  # but for two events, which are sent again
            await spool.settle(delivered(ES, 3, 13, Pending(ES, 2, "logs", [0, 1])))
        await spool.quarantine(2, "a bit was flipped")
        assert spool.ledger()[OutputKey(ES, Term.LOST, "damaged chunk")] == (2 if answered_first else 5)
        if answered_first:
            await spool.settle(delivered(ES, 3, 2, Pending(ES, 2, "logs", [])))
        else:
            await spool.settle(delivered(ES, 3, 14, Pending(ES, 2, "logs", [0])))  # one event was refused: that is lost
        ledger = spool.ledger()
        lost = 0 if answered_first else 1
        assert ledger[OutputKey(ES, Term.LOST, "damaged chunk")] == lost
        assert ledger[OutputKey(ES, Term.DELIVERED)] == 15 - lost
        assert ledger[OutputKey("archive", Term.LOST, "damaged chunk")] == 5
        assert (spool.held(ES).events, spool.held("archive").events) == (0, 10)
    async with opened(tmp_path) as spool:
        assert spool.ledger() == ledger


# --- the process dies --------------------------------------------------------------------------------------

_VICTIM = """
import asyncio, sys
from pathlib import Path
from tests.spool.making import chunk, delivered, intake, new_spool  # XX

async def main():
    spool = new_spool(Path(sys.argv[1]))
    await spool.open()
    first = int(spool.positions("").get("file", b"0"))
    async def write(lane):
        nonlocal first
        while True:
            first += 1
            mine = first
            (number,) = await spool.commit(intake(chunk(2, first=mine), file=b"%d" % mine, **{f"n{mine}": b"x"}))
            print("done", mine, number, flush=True)
            if number % 5 == 0:
                await spool.settle(delivered("elasticsearch", number - 40, 0))
    await asyncio.gather(*map(write, range(8)))

asyncio.run(main())
"""


async def test_kill_9_in_the_middle_of_commits(tmp_path: Path) -> None:
    """After each of several kills everything acknowledged is there, with its position, its chunk and its counts."""
    acknowledged: set[int] = set()
    generator = random.Random(3)
    for _ in range(6):
        victim = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _VICTIM, str(tmp_path), stdout=subprocess.PIPE
        )
        assert victim.stdout is not None
        await victim.stdout.readline()
        await asyncio.sleep(generator.uniform(0.0, 0.15))
        victim.send_signal(signal.SIGKILL)
        rest = await victim.stdout.read()
        await victim.wait()
        acknowledged |= {int(line.split()[1]) for line in rest.splitlines(keepends=True) if line.endswith(b"\n")}
        async with opened(tmp_path) as spool:
            positions = {int(key[1:]) for key in spool.positions("n")}
            assert acknowledged <= positions
            held = await spool.fresh(ES, 0, 2**30)
            assert spool.held(ES).events == 2 * len(held) == 2 * spool.usage().chunks
            assert spool.ledger()[OutputKey(ES, Term.ASSIGNED)] == 2 * len(positions)
            ids = {each.ids[0] for each in held}
            assert len(ids) == len(held)
            (number,) = await spool.commit(intake(chunk(1)))
            assert number == max([*(each.number for each in held), 0]) + 1
            await spool.settle(Settlement(ES, number))
            spool_ledger = spool.ledger()[OutputKey(ES, Term.ASSIGNED)]
        with sqlite3.connect(tmp_path / DATABASE) as connection:
            connection.execute("UPDATE ledger SET count = count - 1 WHERE term = 'assigned'")
        connection.close()
        assert spool_ledger == 2 * len(positions) + 1


_ONE_COMMIT = """
import asyncio, os, sys
from pathlib import Path
from tests.spool.making import chunk, intake, new_spool  # XX

async def main():
    spool = new_spool(Path(sys.argv[1]))
    await spool.open()
    for number in range(5):
        os.write(1, b"SUBMIT\\n")
        await spool.commit(intake(chunk(3), file=b"%d" % number))
        os.write(1, b"RESOLVED\\n")

asyncio.run(main())
"""


async def test_a_commit_returns_only_after_the_sync_of_the_log(tmp_path: Path) -> None:
    """Between handing in and hearing of it, the write-ahead log is written and then synced."""
    if shutil.which("strace") is None:
        missing("strace is not installed")
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-y", "-e", "trace=write,pwrite64,fsync,fdatasync", "-o", str(trace)]
    process = await asyncio.create_subprocess_exec(
        *command, sys.executable, "-c", _ONE_COMMIT, str(tmp_path / "spool"), stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    _, errors = await process.communicate()
    if process.returncode != 0:
        missing(f"strace cannot trace here: {errors.decode()[-200:]}")
    story = "".join(_sign(line) for line in trace.read_text(errors="replace").splitlines())
    assert len(re.findall(r"S[^SR]*W+F[^SRW]*R", story)) == 5, story


def _sign(line: str) -> str:
    """S: handed in, W: the log written, F: the log synced (at its end), R: resolved."""
    if '"SUBMIT' in line:
        return "S"
    if '"RESOLVED' in line:
        return "R"
    if "spool.db-wal>" in line and "write64(" in line:
        return "W"
    if "sync" in line and ("spool.db-wal>" in line or "resumed>" in line) and line.rstrip().endswith("= 0"):
        return "F"
    return ""


# --- the disk is full --------------------------------------------------------------------------------------


async def fill(spool: Spool) -> None:
    for _ in range(2000):
        await spool.commit(intake(chunk(10, line=noise(20_000))))


def take_the_rest(disk: Path) -> Path:
    """A file of somebody else's, of all that is free."""
    path = disk / "other"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return path


async def test_a_full_disk_fails_commits_and_lets_settlements_through(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """On a full disk a commit is a SpoolFullError, what is there is delivered and deleted, and intake goes on."""
    async with opened(small_disk) as spool:
        with pytest.raises(SpoolFullError):
            await fill(spool)
        assert not spool.has_room()
        held = await spool.fresh(ES, 0, 2**30)
        assert spool.held(ES).events == 10 * len(held) > 0
        with pytest.raises(SpoolFullError):
            await spool.commit(intake(chunk(1)))
        for each in held:
            await spool.settle(delivered(ES, each.number, 10))
        await asyncio.wait_for(spool.room(), 10)
        assert await spool.commit(intake(chunk(1)))
        assert spool.held(ES).events == 1
        assert spool.ledger()[OutputKey(ES, Term.DELIVERED)] == 10 * len(held)
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


async def test_a_disk_filled_by_others_is_waited_for(small_disk: Path) -> None:
    """When somebody else's file fills the disk, room comes back by itself once that file is gone."""
    async with opened(small_disk) as spool:
        other = take_the_rest(small_disk)
        with pytest.raises(SpoolFullError):
            await fill(spool)
        assert not spool.has_room()
        other.unlink()
        await asyncio.wait_for(spool.room(), 10)
        assert await spool.commit(intake(chunk(1)))


async def test_a_spool_opens_on_a_full_disk(small_disk: Path) -> None:
    """A daemon that was stopped on a full disk starts on it, and reads what it holds."""
    async with opened(small_disk) as spool:
        with pytest.raises(SpoolFullError):
            await fill(spool)
    take_the_rest(small_disk)
    async with opened(small_disk) as spool:
        held = await spool.fresh(ES, 0, 2**30)
        assert spool.held(ES).events == 10 * len(held) > 0
