"""Dead letters in the database: they come, are grouped, leave once, and are bounded; their sum closes throughout."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from mcp_ingest.component import ByteSize, Duration
from mcp_ingest.context import SystemClock
from mcp_ingest.errors import LetterGoneError, SpoolFullError
from mcp_ingest.event import Term
from mcp_ingest.metrics import Metrics
from mcp_ingest.spool import Spool, SpoolReader
from mcp_ingest.spool.files import DATABASE
from mcp_ingest.spool.letters import EXPIRED_AT_ONCE
from mcp_ingest.spool.model import (
    DeadLetter,
    DeadLetterSettings,
    Intake,
    LetterKey,
    Selection,
    Settlement,
    SpoolSettings,
)
from tests.spool.making import OUTPUTS, chunk, intake, letter, noise, opened, settings

ES = "elasticsearch"
DAY = 86_400 * 10**9


def letters(*made: DeadLetter) -> Intake:
    """An intake of these letters, counted as the engine counts them."""
    return Intake(letters=list(made), ledger=Counter(LetterKey(Term.DEAD_LETTERED, each.kind) for each in made))


def terms(spool: Spool | SpoolReader) -> dict[str, int]:
    """The terms of the letters' sum; it is closed."""
    found: Counter[str] = Counter()
    for key, count in spool.ledger().items():
        if isinstance(key, LetterKey):
            found[key.term] += count
    kept = spool.usage().dead_letters
    assert found[Term.DEAD_LETTERED] == kept + sum(found[t] for t in ("replayed", "expired", "deleted", "lost"))
    assert spool.usage().letters.kinds.total() == kept
    return {**found, "kept": kept}


def bounded(directory: Path, **bounds: object) -> SpoolSettings:
    made = settings(directory)
    made.dead_letters = DeadLetterSettings(**bounds)  # type: ignore[arg-type]
    return made


def spool_of(made: SpoolSettings) -> Spool:
    return Spool(made, OUTPUTS, SystemClock(), logging.getLogger("mcp_ingest.test"), Metrics())


# --- they come ---------------------------------------------------------------------------------------------


async def test_a_letter_comes_back_as_it_went_in(tmp_path: Path) -> None:
    """Everything is there after a restart: also its signature, and the type of the output that refused it."""
    made = letter("[1:2] failed to parse field [n]", output=ES, record=b'{"n":"x"}')
    made.destination, made.received, made.tag = "logs-2026.11.22", 7, "mcp.ä"
    async with opened(tmp_path, outputs={ES: "elasticsearch", "archive": "file"}) as spool:
        await spool.commit(intake(chunk(1)))
        await spool.settle(Settlement(ES, 1, letters=[made], ledger=letters(made).ledger))
    async with opened(tmp_path) as spool:
        (found,) = await spool.dead_letters.page(10)
        assert found.output_type == "elasticsearch"
        assert len(found.signature) == 12
        made.number = found.number
        assert found == made
        assert terms(spool) == {"dead_lettered": 1, "kept": 1}


async def test_letters_are_grouped_by_their_signature(tmp_path: Path) -> None:
    """Reasons that differ in numbers are one group, the largest first; a filter takes what fits."""
    now = time.time_ns()
    made = [letter(f"line {n} is too long", output=ES, died=now - (4 - n) * DAY) for n in range(5)]
    made += [letter("no pipeline takes it", pipeline="mcp", died=now - (2 - n) * DAY) for n in range(3)]
    async with opened(tmp_path) as spool:
        await spool.commit(letters(*made))
        first, second = await spool.dead_letters.groups()
        assert (first.letters, first.output, first.kind) == (5, ES, "refused")
        assert (first.oldest, first.newest) == (now - 4 * DAY, now)
        assert first.reason == "line 4 is too long"
        assert (second.letters, second.pipeline) == (3, "mcp")
        assert first.bytes > 5 * len("line 4 is too long")

        async def counts(**named: object) -> list[int]:
            groups = await spool.dead_letters.groups(Selection(**named))  # type: ignore[arg-type]
            page = await spool.dead_letters.page(100, wanted=Selection(**named))  # type: ignore[arg-type]
            assert sum(group.letters for group in groups) == len(page)
            return [group.letters for group in groups]

        assert await counts(output=ES) == [5]
        assert await counts(pipeline="mcp") == [3]
        assert await counts(stage="parse_json") == []
        assert await counts(group=second.signature) == [3]
        assert await counts(reason="TOO LONG") == [5]
        assert await counts(since=now - DAY) == [2, 2]
        assert await counts(reason="LINE 3", output=ES) == [1]
        assert await counts(numbers=(1, 2, 6, 99)) == [2, 1]


async def test_a_page_begins_below_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages come one after the other without a gap, whatever the steps in which they are read."""
    monkeypatch.setattr("mcp_ingest.spool.letter_reader.STEP", 3)
    async with opened(tmp_path) as spool:
        await spool.commit(letters(*[letter(f"reason {'ab'[n % 2]}") for n in range(20)]))
        wanted = Selection(reason="reason a")
        first = await spool.dead_letters.page(4, wanted=wanted)
        second = await spool.dead_letters.page(100, before=first[-1].number, wanted=wanted)
        assert [each.number for each in first + second] == [*range(19, 0, -2)]
        found, after = await spool.dead_letters.numbers(wanted, 0, 15, 3)
        assert (found, after) == ([1, 3, 5], 6)
        assert await spool.dead_letters.numbers(wanted, after, 15, 100) == ([7, 9, 11, 13, 15], 15)
        assert [each.letters for each in await spool.dead_letters.groups(wanted)] == [10]


async def test_a_page_is_bounded_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large letters make a short page, behind which one can go on."""
    monkeypatch.setattr("mcp_ingest.spool.letter_reader.PAGE_BYTES", 2500)
    async with opened(tmp_path) as spool:
        await spool.commit(letters(*[letter(record=noise(1000)) for _ in range(5)]))
        assert [each.number for each in await spool.dead_letters.page(10)] == [5, 4, 3]
        assert [each.number for each in await spool.dead_letters.page(10, before=3)] == [2, 1]


async def test_a_commit_without_letters_asks_nothing_about_them(tmp_path: Path) -> None:
    """Neither an intake nor a settlement without letters touches their tables."""
    async with opened(tmp_path) as spool:
        asked: list[str] = []
        await spool._call(lambda: spool._open_reader.connection.set_trace_callback(asked.append))
        await spool.commit(intake(chunk(2)))
        await spool.settle(Settlement(ES, 1))
        await spool._call(lambda: spool._open_reader.connection.set_trace_callback(None))
    assert any("chunks" in statement for statement in asked)
    assert [statement for statement in asked if "letter" in statement] == []


# --- they leave --------------------------------------------------------------------------------------------


async def test_a_replay_is_one_commit(tmp_path: Path) -> None:
    """The chunk is there and the letter gone, or neither."""
    async with opened(tmp_path) as spool:
        await spool.commit(letters(letter(), letter()))
        again = intake(chunk(1))
        again.replayed = [1]
        await spool.commit(again)
        assert [each.number for each in await spool.dead_letters.page(10)] == [2]
        assert terms(spool) == {"dead_lettered": 2, "replayed": 1, "kept": 1}
        bad = intake(chunk(1), wrong=object())  # type: ignore[arg-type]
        bad.replayed = [2]
        with pytest.raises(Exception, match="commit failed"):
            await spool.commit(bad)
        assert terms(spool)["kept"] == 1
        assert spool.usage().chunks == 1


async def test_the_same_letter_is_replayed_once(tmp_path: Path) -> None:
    """Of many replays of a letter at once one is committed; the others fail whole, and the neighbours do not."""
    async with opened(tmp_path) as spool:
        await spool.commit(letters(letter()))
        tries = []
        for number in range(5):
            again = intake(chunk(1, first=number))
            again.replayed = [1]
            tries += [spool.submit(again), spool.submit(intake(chunk(1, ("archive",), first=10 + number)))]
        results = await asyncio.gather(*tries, return_exceptions=True)
        gone = [each for each in results if isinstance(each, LetterGoneError)]
        assert len(gone) == 4
        assert [each for each in results if isinstance(each, BaseException)] == gone
        assert (spool.held(ES).events, spool.held("archive").events) == (1, 5)
        assert terms(spool) == {"dead_lettered": 1, "replayed": 1, "kept": 0}


async def test_a_drop_counts_what_was_there(tmp_path: Path) -> None:
    """A letter that is named twice, or is gone, counts once; a group without letters is gone, too."""
    async with opened(tmp_path) as spool:
        await spool.commit(letters(letter(), letter(), letter("other")))
        assert await spool.dead_letters.drop([1, 1, 2, 77]) == [1, 2]
        assert await spool.dead_letters.drop([2]) == []
        assert [group.letters for group in await spool.dead_letters.groups()] == [1]
        assert terms(spool) == {"dead_lettered": 3, "deleted": 2, "kept": 1}
    with SpoolReader(tmp_path, OUTPUTS) as reader:
        assert terms(reader)["kept"] == 1
        assert reader.drop_letters(Selection(reason="oth"), 10) == 1
        assert terms(reader) == {"dead_lettered": 3, "deleted": 3, "kept": 0}
    async with opened(tmp_path) as spool:
        assert terms(spool)["kept"] == 0
        assert spool.usage().letters.bytes == 0


# --- the bounds --------------------------------------------------------------------------------------------


async def test_bytes_are_bounded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Above the bound the oldest go with the commit that brings more, counted, and said once."""
    spool = spool_of(bounded(tmp_path, max_bytes=ByteSize(20_000)))
    await spool.open()
    try:
        for _ in range(5):
            await spool.commit(letters(*[letter(record=noise(1000)) for _ in range(10)]))
            assert spool.usage().letters.bytes <= 20_000
        found = terms(spool)
        assert found["expired"] == 50 - found["kept"] > 20
        assert [each.number for each in await spool.dead_letters.page(2)] == [50, 49]
        await spool.commit(letters(letter(record=noise(50_000))))
        assert terms(spool)["kept"] == 0
    finally:
        await spool.close()
    assert len([record for record in caplog.records if "were let go" in record.message]) == 1


async def test_age_is_bounded(tmp_path: Path) -> None:
    """What is older than the bound goes when it is looked for, whatever the order; the rest stays."""
    now = time.time_ns()
    spool = spool_of(bounded(tmp_path, max_age=Duration.parse("2d")))
    await spool.open()
    try:
        await spool.commit(letters(letter("new", died=now)))
        await spool.dead_letters.expire(spool.usage().letters)  # nothing is old yet
        await spool.commit(letters(letter("old", died=now - 3 * DAY)))
        assert spool.usage().letters.oldest == now - 3 * DAY
        await spool.dead_letters.expire(spool.usage().letters)
        assert terms(spool) == {"dead_lettered": 2, "expired": 1, "kept": 1}
        assert spool.usage().letters.oldest == now
    finally:
        await spool.close()
    later = spool_of(bounded(tmp_path, max_age=Duration.parse("1ms")))
    await later.open()
    try:
        await later.dead_letters.expire(later.usage().letters)
        assert terms(later) == {"dead_lettered": 2, "expired": 2, "kept": 0}
        assert later.usage().letters.oldest is None
    finally:
        await later.close()


async def test_many_letters_age_in_bounded_transactions(tmp_path: Path) -> None:
    """Thousands that are too old at a start go in several commits, to the last."""
    count = 2 * EXPIRED_AT_ONCE + 10
    async with opened(tmp_path) as spool:
        await spool.commit(letters(*[letter() for _ in range(count)]))
    spool = spool_of(bounded(tmp_path, max_age=Duration.parse("1ms")))
    await spool.open()
    try:
        await spool.dead_letters.expire(spool.usage().letters)
        assert terms(spool) == {"dead_lettered": count, "expired": count, "kept": 0}
    finally:
        await spool.close()


@pytest.mark.parametrize(("chosen", "problems"), [(None, 0), (ByteSize(2**29), 0), (ByteSize(2**29 + 1), 1)])
def test_letters_leave_room_for_events(chosen: ByteSize | None, problems: int) -> None:
    """Without a bound of their own an eighth of the spool is theirs; more than half of it is refused."""
    made = SpoolSettings(max_bytes=ByteSize(2**30), dead_letters=DeadLetterSettings(max_bytes=chosen))
    assert len(made.check()) == problems
    assert made.dead_letter_bytes == (2**27 if chosen is None else chosen)


# --- damage and a full disk --------------------------------------------------------------------------------


async def fill(spool: Spool) -> None:
    for _ in range(2000):
        await spool.commit(intake(chunk(10, line=noise(20_000))))


def _damage(directory: Path, statement: str, number: int) -> None:
    connection = sqlite3.connect(directory / DATABASE)
    with connection:
        connection.execute(statement, (number,))
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE dead_letters SET record = CAST('{\"n\":2}' AS BLOB) WHERE number = ?",
        "UPDATE dead_letters SET reason = CAST(x'fffe' AS TEXT) WHERE number = ?",
        "UPDATE dead_letters SET event_id = x'00' WHERE number = ?",
        "UPDATE dead_letters SET destination = 'elsewhere' WHERE number = ?",
    ],
)
@pytest.mark.parametrize(
    "look",
    [
        lambda spool: spool.dead_letters.page(10),
        lambda spool: spool.dead_letters.get(2),
        lambda spool: spool.dead_letters.read([1, 2, 3]),
    ],
)
async def test_a_damaged_letter_is_lost_and_the_others_are_not(
    tmp_path: Path, statement: str, look: Callable[[Spool], object], caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever looks at it, it is set aside, counted, and said; a list goes on."""
    async with opened(tmp_path) as spool:
        await spool.commit(letters(*[letter(f"why {n}", record=b'{"n":1}') for n in range(3)]))
    _damage(tmp_path, statement, 2)
    async with opened(tmp_path) as spool:
        await look(spool)  # type: ignore[misc]
        assert [each.number for each in await spool.dead_letters.page(10)] == [3, 1]
        assert terms(spool) == {"dead_lettered": 3, "lost": 1, "kept": 2}
    connection = sqlite3.connect(tmp_path / DATABASE)
    ((number, why),) = connection.execute("SELECT number, why FROM damaged_letters").fetchall()
    connection.close()
    assert number == 2
    assert "dead letter 2" in why
    assert len([record for record in caplog.records if "counted as lost" in record.message]) == 1


async def test_a_torn_page_of_letters_costs_the_letters_in_it(tmp_path: Path) -> None:
    """When a page of the table is rubbish, the letters of the others are still listed and replayable."""
    async with opened(tmp_path) as spool:
        await spool.commit(letters(*[letter(f"why {n}", record=noise(500)) for n in range(60)]))
    connection = sqlite3.connect(tmp_path / DATABASE)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'dead_letters'").fetchone()
    connection.close()
    data = bytearray((tmp_path / DATABASE).read_bytes())
    interior = data[(root - 1) * 4096 : root * 4096]
    assert interior[0] == 5  # an interior page of a table: its first cell names the first leaf
    cell = int.from_bytes(interior[12:14], "big")
    leaf = int.from_bytes(interior[cell : cell + 4], "big")
    data[(leaf - 1) * 4096 : leaf * 4096] = bytes(4096)
    (tmp_path / DATABASE).write_bytes(data)
    async with opened(tmp_path) as spool:
        page = await spool.dead_letters.page(100)
        assert 50 < len(page) < 60
        assert terms(spool)["kept"] + terms(spool).get("lost", 0) == 60
        found, _ = await spool.dead_letters.numbers(Selection(), 0, 60, 100)
        assert sorted(found) == sorted(each.number for each in page)
        assert await spool.dead_letters.groups()


async def test_a_settlement_with_letters_needs_no_more_than_the_ballast(small_disk: Path) -> None:
    """On a full disk letters of the way in are refused with their emit, those of an output are stored, drops work."""
    async with opened(small_disk) as spool:
        await spool.commit(intake(chunk(1)))
        with pytest.raises(SpoolFullError):
            await fill(spool)
        with pytest.raises(SpoolFullError):
            await spool.commit(letters(letter()))
        assert terms(spool) == {"kept": 0}
        dead = [letter(output=ES, record=noise(400)) for _ in range(300)]
        await spool.settle(Settlement(ES, 1, letters=dead, ledger=letters(*dead).ledger))
        assert terms(spool) == {"dead_lettered": 300, "kept": 300}
        assert len(await spool.dead_letters.drop([*range(1, 101)])) == 100
        assert terms(spool)["kept"] == 200


async def test_on_a_full_disk_new_letters_take_the_place_of_old_ones(small_disk: Path) -> None:
    """An output that refuses nearly everything goes on when the spool itself has filled the disk."""
    async with opened(small_disk) as spool:
        with pytest.raises(SpoolFullError):
            await fill(spool)
        chunks = len(await spool.fresh(ES, 0, 2**30))
        for number in range(1, chunks + 1):  # each gives 10 events of 20 KB back, and brings 1.5 times that
            dead = [letter(output=ES, record=noise(1000)) for _ in range(300)]
            await asyncio.wait_for(spool.settle(Settlement(ES, number, letters=dead, ledger=letters(*dead).ledger)), 10)
        found = terms(spool)
        assert found["dead_lettered"] == chunks * 300
        assert found["expired"] > 0
        assert found["kept"] > 300
        assert (await spool.dead_letters.page(1))[0].number == chunks * 300
