"""Salvage of whatever damage, against what the spool held before."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from mcp_ingest.spool import Spool
from mcp_ingest.spool.aside import LOG
from mcp_ingest.spool.files import DATABASE
from mcp_ingest.spool.model import Pending
from mcp_ingest.spool.pages import DatabaseFile, LogFile
from mcp_ingest.spool.salvage import Findings, Salvage
from mcp_ingest.spool.schema import PAGE
from mcp_ingest.spool.sums import Sums, read_sums
from tests.spool.making import OUTPUTS, chunk, delivered, intake, letter, noise, opened

ES, ARCHIVE = "elasticsearch", "archive"
Content = dict[str, list[tuple[object, ...]]]


async def fill(spool: Spool, chunks: int = 30) -> None:
    """Chunks of one page and of many, some settled, one pending; a letter, digests, positions."""
    generator = random.Random(1)
    for number in range(1, chunks + 1):
        line = generator.randbytes(generator.choice((30, 300, 3000))).hex().encode()
        made = intake(chunk(3, (ES, ARCHIVE), first=10 * number, line=line), **{f"file{number % 5}": b"%d" % number})
        made.digests = [generator.randbytes(16)]
        if number % 10 == 0:
            made.letters = [letter("refused", ES)]
        await spool.commit(made)
    await spool.settle(delivered(ES, 12, 34, Pending(ES, 12, "logs-2026.11.22", [0, 2])))
    await spool.settle(delivered(ARCHIVE, 5, 15))


def content(path: Path) -> Content:
    """All rows of a spool's tables."""
    with sqlite3.connect(path) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found: Content = {name: sorted(connection.execute(f"SELECT * FROM {name}")) for name in names}
    connection.close()
    return found


def salvaged(directory: Path, sums: Sums | None = None) -> tuple[Content, Findings]:
    target = directory / "new.db"
    findings = Salvage(directory / DATABASE, directory / LOG, target, OUTPUTS, lambda *_: None).run(sums)
    return content(target), findings


def overwrite(path: Path, start: int, length: int = PAGE, seed: int = 1) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(random.Random(seed).randbytes(length))


async def test_a_whole_database_comes_out_as_it_was(tmp_path: Path) -> None:
    """Nothing changes of a database that is whole: every row of every table."""
    async with opened(tmp_path) as spool:
        await fill(spool)
    made, findings = salvaged(tmp_path)
    assert made == content(tmp_path / DATABASE)
    assert (findings.chunks, findings.torn, findings.damaged, findings.missing) == (25, [], set(), set())


async def test_a_log_is_read_with_its_database(tmp_path: Path) -> None:
    """What stands in the write-ahead log alone is there, too, and an unfinished transaction at its end is not."""
    running, copy = tmp_path / "running", tmp_path / "copy"
    async with opened(running, ballast=2**24) as spool:
        await fill(spool)
        shutil.copytree(running, copy)
    with (copy / LOG).open("r+b") as log:
        log.truncate((copy / LOG).stat().st_size - 24 - PAGE)  # the last frame of the last commit
    made, _ = salvaged(copy)
    expected = content(running / DATABASE)
    with sqlite3.connect(copy / DATABASE) as connection:  # SQLite's own view of the log without its last commit
        before = [row[0] for row in connection.execute("SELECT mark FROM outputs ORDER BY id")]
    connection.close()
    assert [row[3] for row in made["outputs"]] == before != [row[3] for row in expected["outputs"]]
    assert made["chunks"] == content(copy / DATABASE)["chunks"]


@pytest.mark.parametrize("page", range(1, 16))
async def test_any_first_page_of_a_table_may_be_gone(tmp_path: Path, page: int) -> None:
    """Without the page on which a table begins every chunk that stands elsewhere is found."""
    async with opened(tmp_path) as spool:
        await fill(spool)
    before = content(tmp_path / DATABASE)
    overwrite(tmp_path / DATABASE, (page - 1) * PAGE)
    made, _ = salvaged(tmp_path, read_sums(tmp_path))
    bodies = {row[0]: row[4] for row in made["chunks"]}
    old = {row[0]: row[4] for row in before["chunks"]}
    assert {number: old[number] for number in bodies} == bodies
    assert len(old) - len(bodies) <= 4  # those that stood on the page itself


async def test_what_nobody_owes_any_more_stays_away(tmp_path: Path) -> None:
    """Chunks that were delivered are not found again on free pages."""
    async with opened(tmp_path) as spool:
        await fill(spool)
        for name in (ES, ARCHIVE):
            await spool.settle(delivered(name, 25, 0, Pending(name, 12, "logs-2026.11.22", [])))
    overwrite(tmp_path / DATABASE, 3 * PAGE)  # the table `outputs`: nobody knows the marks
    made, findings = salvaged(tmp_path)
    assert [row[0] for row in made["chunks"]] == [26, 27, 28, 29, 30]
    assert findings.chunks == 5


async def test_marks_that_are_gone_mean_everything_again(tmp_path: Path) -> None:
    """Without marks and sums each chunk that is there is owed by all that it names; with sums as it was before."""
    async with opened(tmp_path) as spool:
        await fill(spool)
    before = content(tmp_path / DATABASE)
    overwrite(tmp_path / DATABASE, 3 * PAGE)
    made, findings = salvaged(tmp_path)
    assert Counter(row[1] for row in made["owed"]) == Counter(dict.fromkeys([row[0] for row in made["outputs"]], 25))
    assert findings.torn == ["outputs"]
    made, _ = salvaged(tmp_path, read_sums(tmp_path))
    assert (made["outputs"], made["owed"], made["pending"]) == (before["outputs"], before["owed"], before["pending"])


async def test_pending_rows_that_are_gone_mean_the_whole_chunk_again(tmp_path: Path) -> None:
    """A chunk before the mark is there because something of it is pending: if nobody knows what, all of it is."""
    async with opened(tmp_path) as spool:
        await fill(spool)
        await spool.settle(delivered(ARCHIVE, 12, 0))
    overwrite(tmp_path / DATABASE, 7 * PAGE)  # `owed`
    overwrite(tmp_path / DATABASE, 8 * PAGE)  # `pending`
    made, findings = salvaged(tmp_path)
    assert {"owed", "pending"} <= set(findings.torn)
    twelfth = [row for row in made["pending"] if row[1] == 12]
    assert {row[3] for row in twelfth} == {3}


async def test_a_damaged_frame_of_the_log_costs_no_more_than_itself(tmp_path: Path) -> None:
    """What stands behind a damaged frame is found, where SQLite forgets it."""
    running, copy = tmp_path / "running", tmp_path / "copy"
    async with opened(running, ballast=2**24) as spool:
        await fill(spool)
        shutil.copytree(running, copy)
    whole = content(running / DATABASE)
    frames = (copy / LOG).stat().st_size // (24 + PAGE)
    overwrite(copy / LOG, 32 + (frames // 4) * (24 + PAGE) + 100, 50)
    log = LogFile(copy / LOG)
    log.close()
    assert log.beyond
    assert len(log.suspects) == 1
    made, _ = salvaged(copy)
    with sqlite3.connect(copy / DATABASE) as connection:
        (left,) = connection.execute("SELECT count(*) FROM chunks").fetchone()
    connection.close()
    assert len(made["chunks"]) >= len(whole["chunks"]) - 1 > left


async def test_bytes_of_other_tables_come_along(tmp_path: Path) -> None:
    """Positions, digests and dead letters are as they were when only chunks are damaged."""
    async with opened(tmp_path) as spool:
        await fill(spool)
        await spool.commit(intake(chunk(3, (ES,), first=5000, line=noise(90_000))))
    before = content(tmp_path / DATABASE)
    overwrite(tmp_path / DATABASE, (tmp_path / DATABASE).stat().st_size - 20 * PAGE)  # in the midst of the large one
    made, findings = salvaged(tmp_path)
    assert findings.damaged | findings.missing == {31}
    for name in ("positions", "seen", "dead_letters", "ledger", "outputs", "pending", "meta"):
        assert made[name] == before[name]


async def test_the_way_of_a_chunks_pages_may_lead_anywhere(tmp_path: Path) -> None:
    """Overflow pages that lead in a circle, out of the file or nowhere end the chunk, not the salvage."""
    async with opened(tmp_path) as spool:
        await spool.commit(intake(chunk(200, (ES,), line=noise(3000))))
    path = tmp_path / DATABASE
    whole = path.read_bytes()
    at = whole.rfind((len(whole) // PAGE).to_bytes(4, "big"))  # the pointer to the last page
    for target in (at // PAGE + 1, 2**31, 0, 3):
        path.write_bytes(whole[:at] + target.to_bytes(4, "big") + whole[at + 4 :])
        made, _ = salvaged(tmp_path)
        assert made["chunks"] == []


async def test_nothing_at_all(tmp_path: Path) -> None:
    """Files that are missing or empty give an empty spool."""
    made, findings = salvaged(tmp_path)
    assert made["chunks"] == []
    (tmp_path / DATABASE).write_bytes(b"")
    (tmp_path / LOG).write_bytes(b"x" * 100_000)
    made, findings = salvaged(tmp_path)
    assert (made["chunks"], findings.chunks) == ([], 0)
    with DatabaseFile(tmp_path / DATABASE, tmp_path / "no log") as pages:
        assert pages.page(1) is None


async def test_a_disk_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit is counted, and the spool is whole without it."""
    async with opened(tmp_path) as spool:
        await fill(spool)
    monkeypatch.setattr(Salvage, "_has_room", lambda self: False)
    _, findings = salvaged(tmp_path)
    assert (findings.chunks, findings.no_room) == (0, 25)
