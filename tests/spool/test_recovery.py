"""Opening a database whatever state it is in: what is said, what is lost, what goes on."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from pathlib import Path

import pytest

from mcp_ingest.engine.status import owed, sums
from mcp_ingest.errors import SpoolError
from mcp_ingest.event import Term
from mcp_ingest.metrics import SPOOL_DAMAGE, Metrics
from mcp_ingest.spool import Spool, SpoolReader
from mcp_ingest.spool.aside import KEPT_LOG, LOG
from mcp_ingest.spool.files import DATABASE
from mcp_ingest.spool.model import InputKey, LetterKey, OutputKey
from mcp_ingest.spool.pages import LogFile
from mcp_ingest.spool.schema import PAGE
from mcp_ingest.spool.sums import SUMS, read_sums
from tests.spool.making import OUTPUTS, chunk, delivered, intake, letter, opened
from tests.spool.test_salvage import overwrite

ES = "elasticsearch"


def assert_closed(spool: Spool) -> None:
    """The three sums of the ledger close."""
    held = owed({name: spool.held(name) for name in OUTPUTS}, spool.backlog_of_removed_outputs())
    made = sums(spool.ledger(), held, spool.usage().dead_letters)
    assert all(each["closed"] for each in made), made


def folder_of(directory: Path) -> Path:
    """The one that was set aside."""
    (folder,) = directory.glob("damaged-*")
    return folder


def lost(spool: Spool) -> dict[str, int]:
    return {
        key.reason: count
        for key, count in spool.ledger().items()
        if isinstance(key, OutputKey) and key.output == ES and key.term == Term.LOST
    }


async def commit(spool: Spool, *numbers: int) -> None:
    for number in numbers:
        made = intake(chunk(3, first=10 * number), file=b"%d" % number)
        made.ledger[InputKey("forward", "mcp", Term.RECEIVED)] += 3
        await spool.commit(made)


async def test_a_backup_put_back_is_told_from_the_original(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What was committed after the copy was made is lost, what was delivered since is sent again, the uuid is new."""
    async with opened(tmp_path) as spool:
        await commit(spool, 1, 2, 3)
    shutil.copy(tmp_path / DATABASE, tmp_path / "backup")
    async with opened(tmp_path) as spool:
        await commit(spool, 4, 5, 6)
        await spool.settle(delivered(ES, 4, 12))
        before = spool.uuid
    shutil.copy(tmp_path / "backup", tmp_path / DATABASE)
    async with opened(tmp_path) as spool:
        assert spool.uuid != before
        assert lost(spool) == {"lost commits": 6}
        assert spool.ledger()[OutputKey(ES, Term.REPLAYED, "lost commits")] == 9
        assert (
            spool.ledger()[OutputKey(ES, Term.ASSIGNED)] + spool.ledger()[OutputKey(ES, Term.ASSIGNED, "lost commits")]
            == 18
        )
        assert_closed(spool)
        assert [each.number for each in await spool.fresh(ES, 0, 2**20)] == [1, 2, 3]
        await commit(spool, 7)
        assert [each.number for each in await spool.fresh(ES, 3, 2**20)] == [7]  # no number is given twice
        (notice,) = spool.notices()
        assert (notice.kind, notice.lost) == ("commits", {ES: 6})
        first = spool.ledger()
    assert "has forgotten its last 4 commits" in caplog.text
    async with opened(tmp_path) as spool:  # once is enough
        assert spool.ledger() == first
        assert len(spool.notices()) == 1


async def test_dead_letters_of_forgotten_commits_are_lost(tmp_path: Path) -> None:
    """A letter that the database has forgotten is in the letters' own sum."""
    async with opened(tmp_path) as spool:
        await commit(spool, 1)
    shutil.copy(tmp_path / DATABASE, tmp_path / "backup")
    async with opened(tmp_path) as spool:
        made = intake()
        made.letters = [letter()]
        made.ledger[LetterKey(Term.DEAD_LETTERED, "refused")] += 1
        await spool.commit(made)
    shutil.copy(tmp_path / "backup", tmp_path / DATABASE)
    async with opened(tmp_path) as spool:
        assert spool.ledger()[LetterKey(Term.LOST, "lost commits")] == 1
        assert spool.notices()[0].lost == {"dead letters": 1}
        assert_closed(spool)


async def test_a_moved_spool_gives_new_names(tmp_path: Path) -> None:
    """A copy of the whole folder loses nothing, and its chunks cannot be taken for the original's."""
    async with opened(tmp_path / "old") as spool:
        await commit(spool, 1)
        first = spool.uuid
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    async with opened(tmp_path / "new") as spool:
        assert spool.uuid != first
        assert lost(spool) == {}
        assert spool.notices() == []
        assert spool.held(ES).events == 3
    async with opened(tmp_path / "old") as spool:
        assert spool.uuid == first


@pytest.mark.parametrize("gone", ["sums deleted", "sums damaged", "sums older"])
async def test_sums_that_say_nothing_say_no_loss(tmp_path: Path, gone: str) -> None:
    """Without the file, with a damaged one, or with one that is behind, as after a power cut, nothing is lost."""
    async with opened(tmp_path) as spool:
        await commit(spool, 1)
    older = (tmp_path / SUMS).read_bytes()
    async with opened(tmp_path) as spool:
        await commit(spool, 2)
        first = spool.uuid
    path = tmp_path / SUMS
    path.unlink() if gone == "sums deleted" else path.write_bytes(
        older if gone == "sums older" else random.Random(1).randbytes(len(older))
    )
    async with opened(tmp_path) as spool:
        assert (lost(spool), spool.notices(), spool.uuid) == ({}, [], first)
        assert spool.held(ES).events == 6
    after = read_sums(tmp_path)
    assert after is not None
    assert after.commits == 2


async def test_another_spools_database(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A database that was copied from elsewhere goes on; that the one before is gone is said."""
    for name, count in (("a", 2), ("b", 1)):
        async with opened(tmp_path / name) as spool:
            await commit(spool, *range(1, count + 1))
    shutil.copy(tmp_path / "b" / DATABASE, tmp_path / "a" / DATABASE)
    async with opened(tmp_path / "a") as spool:
        assert spool.held(ES).events == 3
        assert spool.notices()[0].kind == "replaced"
        assert_closed(spool)
    assert "not the one that stood here before" in caplog.text


async def test_a_deleted_database_is_no_new_spool(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What a deleted database held is lost, and its counters and numbers go on."""
    metrics = Metrics()
    async with opened(tmp_path) as spool:
        await commit(spool, 1, 2, 3)
        await spool.settle(delivered(ES, 1, 3))
    (tmp_path / DATABASE).unlink()
    async with opened(tmp_path, metrics=metrics) as spool:
        assert lost(spool) == {"damaged spool": 6}
        assert spool.ledger()[OutputKey(ES, Term.DELIVERED, "damaged spool")] == 3
        assert_closed(spool)
        assert await spool.commit(intake(chunk(1))) == [4]
        (notice,) = spool.notices()
        assert notice.positions_lost
    assert "what is read again may be stored twice" in caplog.text
    assert metrics.registry.get_sample_value("mcp_ingest_spool_damage_total", {"kind": "database"}) == 1
    assert SPOOL_DAMAGE.labels == ("kind",)


def flip_count(directory: Path, count: int) -> None:
    with sqlite3.connect(directory / DATABASE) as connection:
        connection.execute("UPDATE ledger SET count = ? WHERE term = 'assigned'", (count,))
    connection.close()


@pytest.mark.parametrize("count", [2, 9, 4_000_000])
async def test_a_counter_that_the_disk_changed(tmp_path: Path, count: int) -> None:
    """The sums beside the database are right, and nothing is lost for it."""
    async with opened(tmp_path) as spool:
        await commit(spool, 1, 2, 3)
    flip_count(tmp_path, count)
    async with opened(tmp_path) as spool:
        assigned = sum(
            number
            for key, number in spool.ledger().items()
            if isinstance(key, OutputKey) and key.output == ES and key.term == Term.ASSIGNED
        )
        assert (assigned, lost(spool)) == (9, {})
        assert [notice.kind for notice in spool.notices()] == (["counters"] if count != 9 else [])
        assert_closed(spool)


async def test_a_mark_that_the_disk_changed(tmp_path: Path) -> None:
    """A mark that would pass over chunks which nobody has delivered is what it was at the last commit."""
    async with opened(tmp_path) as spool:
        await commit(spool, 1, 2, 3)
    with sqlite3.connect(tmp_path / DATABASE) as connection:
        connection.execute("UPDATE outputs SET mark = 2")
    connection.close()
    async with opened(tmp_path) as spool:
        assert [each.number for each in await spool.fresh(ES, 0, 2**20)] == [1, 2, 3]
        assert lost(spool) == {}
        assert_closed(spool)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger SET term = 'no term' WHERE term = 'assigned'",
        "UPDATE ledger SET count = 'many'",
        "UPDATE outputs SET mark = 1000000",
        "UPDATE outputs SET mark = 'x'",
        "UPDATE meta SET value = x'00'",
        "UPDATE owed SET events = 'x'",
        "DROP TABLE seen",
        "DELETE FROM owed WHERE chunk = 2",
        "PRAGMA user_version = 77",
        "PRAGMA application_id = 77",
        "UPDATE positions SET key = CAST(x'ff00ff' AS TEXT)",
    ],
)
async def test_values_that_no_spool_has(tmp_path: Path, statement: str) -> None:
    """A database that SQLite finds whole, with nonsense in it, is salvaged; no chunk of it is lost."""
    async with opened(tmp_path) as spool:
        await commit(spool, 1, 2, 3)
    with sqlite3.connect(tmp_path / DATABASE) as connection:
        connection.execute(statement)
    connection.close()
    async with opened(tmp_path) as spool:
        assert {each.number for each in await spool.fresh(ES, 0, 2**20)} == {1, 2, 3}
        assert lost(spool) == {}
        assert_closed(spool)


async def test_a_log_with_a_hole_is_salvaged_not_cut(tmp_path: Path) -> None:
    """SQLite opens a log up to its first damaged frame without a word: the sums know that there was more."""
    running, copy = tmp_path / "running", tmp_path / "copy"
    async with opened(running, ballast=2**24) as spool:
        await commit(spool, *range(1, 40))
        shutil.copytree(running, copy)
    frames = (copy / LOG).stat().st_size // (24 + PAGE)
    overwrite(copy / LOG, 32 + (frames // 3) * (24 + PAGE) + 100, 50)
    async with opened(copy) as spool:
        there = {each.number for each in await spool.fresh(ES, 0, 2**20)}
        assert len(there) >= 38
        assert lost(spool).get("damaged spool", 0) == 3 * (39 - len(there))
        assert_closed(spool)
    folder = folder_of(copy)
    log = LogFile(folder / LOG)
    log.close()
    assert log.beyond


async def test_status_of_a_stopped_daemon_leaves_the_log_alone(tmp_path: Path) -> None:
    """Looking into a spool whose log is damaged does not do away with what can still be read of it."""
    running, copy = tmp_path / "running", tmp_path / "copy"
    async with opened(running, ballast=2**24) as spool:
        await commit(spool, *range(1, 40))
        shutil.copytree(running, copy)
    frames = (copy / LOG).stat().st_size // (24 + PAGE)
    overwrite(copy / LOG, 32 + (frames // 3) * (24 + PAGE) + 100, 50)
    for _ in range(2):
        with pytest.raises(SpoolError, match="start the daemon"), SpoolReader(copy, OUTPUTS):
            pass
    assert (copy / KEPT_LOG).exists()
    async with opened(copy) as spool:
        assert len(await spool.fresh(ES, 0, 2**20)) >= 38
    assert not (copy / KEPT_LOG).exists()


@pytest.mark.parametrize("when", ["the files are moved", "the new database is made"])
async def test_a_salvage_cut_short_begins_anew(tmp_path: Path, when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that dies in the midst of a salvage does it again at its next start."""
    async with opened(tmp_path) as spool:
        await commit(spool, 1, 2, 3)
    overwrite(tmp_path / DATABASE, 0)

    class Died(BaseException):
        pass

    def die(*_: object) -> None:
        raise Died

    target = "aside.move_files" if when == "the files are moved" else "sync_directory"
    with monkeypatch.context() as patch:
        patch.setattr(f"mcp_ingest.spool.{'' if 'aside' in target else 'recovery.'}{target}", die)
        with pytest.raises(Died):
            async with opened(tmp_path):
                pass
    async with opened(tmp_path) as spool:
        assert {each.number for each in await spool.fresh(ES, 0, 2**20)} == {1, 2, 3}
        assert lost(spool) == {}
        assert_closed(spool)
    assert not (folder_of(tmp_path) / "unfinished").exists()


async def test_every_byte_of_the_damaged_files_is_kept(tmp_path: Path) -> None:
    """What is set aside is what was there, and never changed by a salvage."""
    async with opened(tmp_path) as spool:
        await commit(spool, 1, 2, 3)
    overwrite(tmp_path / DATABASE, 0)
    before = (tmp_path / DATABASE).read_bytes()
    async with opened(tmp_path):
        pass
    folder = folder_of(tmp_path)
    assert (folder / DATABASE).read_bytes() == before
    os.unlink(folder / DATABASE)
    shutil.rmtree(folder)
    async with opened(tmp_path) as spool:
        assert spool.notices() == []
