"""Tests of the spool as the event loop sees it."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

import pytest

from mcp_ingest.codecs.bulk import entry_lines
from mcp_ingest.errors import SpoolError
from mcp_ingest.event import Term
from mcp_ingest.metrics import COMMITS, Metrics
from mcp_ingest.spool import Spool
from mcp_ingest.spool.model import Intake, OutputKey, Pending, Selection, Settlement
from mcp_ingest.spool.sums import read_sums
from tests.spool.making import OUTPUTS, chunk, delivered, intake, letter, new_spool, noise, opened, settings

ES, ARCHIVE = "elasticsearch", "archive"
BOTH = (ES, ARCHIVE)


async def numbers(output: str, spool_directory: Path, after: int = 0) -> list[int]:
    async with opened(spool_directory) as spool:
        return [each.number for each in await spool.fresh(output, after, 2**30)]


# --- what goes in comes out --------------------------------------------------------------------------------


async def test_a_chunk_comes_out_as_it_went_in(tmp_path: Path) -> None:
    """From memory before a restart, from the disk after it, a chunk is the same."""
    written = chunk(5, BOTH)
    async with opened(tmp_path) as spool:
        (number,) = await spool.commit(intake(written))
        (before,) = await spool.fresh(ES, 0, 2**20)
        assert before.name == f"{spool.uuid.hex()}-{number}"
    async with opened(tmp_path) as spool:
        (after,) = await spool.fresh(ES, 0, 2**20)
        assert await spool.chunk(number) == after == before
        assert after.lines == entry_lines(written.entries)


async def test_an_output_gets_only_the_chunks_that_name_it(tmp_path: Path) -> None:
    """An output for which every destination is None is not named."""
    other = chunk(1, BOTH)
    other.destinations[ARCHIVE] = [None]
    async with opened(tmp_path) as spool:
        await spool.commit(intake(chunk(1), other, chunk(1, BOTH), chunk(1, ())))
        assert [each.number for each in await spool.fresh(ARCHIVE, 0, 2**20)] == [3]
        assert spool.usage().chunks == 3
    assert await numbers(ARCHIVE, tmp_path) == [3]
    assert await numbers(ES, tmp_path, after=1) == [2, 3]


async def test_a_read_from_the_disk_is_bounded_in_bytes(tmp_path: Path) -> None:
    """One chunk comes at least, and no more when it has the bytes that were asked for."""
    async with opened(tmp_path) as spool:
        for first in range(4):
            await spool.commit(intake(chunk(10, first=first)))
    async with opened(tmp_path) as spool:
        assert [each.number for each in await spool.fresh(ES, 0, 1)] == [1]
        assert [each.number for each in await spool.fresh(ES, 1, 300)] == [2, 3]


async def test_positions_are_those_of_the_last_commit(tmp_path: Path) -> None:
    """Positions are found by prefix, overwritten, deleted, and there after a restart."""
    async with opened(tmp_path) as spool:
        await spool.commit(intake(tail_a=b"1", tail_b=b"2", kafka_a=b"3"))
        await spool.commit(intake(tail_a=b"4", tail_b=None))
        assert spool.positions("tail_") == {"tail_a": b"4"}
        assert (spool.position("tail_a"), spool.position("tail_b")) == (b"4", None)
    async with opened(tmp_path) as spool:
        assert spool.positions("") == {"tail_a": b"4", "kafka_a": b"3"}


async def test_chunk_ids_are_seen_across_a_restart(tmp_path: Path) -> None:
    """A digest is seen when its commit returned, and after a restart."""
    digest = hashlib.blake2b(b"id", digest_size=16).digest()
    async with opened(tmp_path) as spool:
        assert not spool.seen([digest])
        await spool.commit(Intake(digests=[digest]))
        assert spool.seen([digest])
    async with opened(tmp_path) as spool:
        assert spool.seen([digest])
        assert not spool.seen([bytes(16)])


async def test_the_ledger_goes_on_after_a_restart(tmp_path: Path) -> None:
    """Counters are added up over commits, settlements and restarts."""
    for _ in range(2):
        async with opened(tmp_path) as spool:
            (number,) = await spool.commit(intake(chunk(3)))
            await spool.settle(delivered(ES, number, 3))
    async with opened(tmp_path) as spool:
        assert spool.ledger()[OutputKey(ES, Term.ASSIGNED)] == 6
        assert spool.ledger()[OutputKey(ES, Term.DELIVERED)] == 6


async def test_dead_letters_are_listed_newest_first(tmp_path: Path) -> None:
    """Letters of both ways are numbered, listed page by page and by output, and found by number."""
    async with opened(tmp_path) as spool:
        await spool.commit(Intake(letters=[letter("one", pipeline="mcp"), letter("two")]))
        await spool.settle(Settlement(ES, letters=[letter("three", output=ES)]))
        newest = await spool.dead_letters.page(2)
        assert [each.reason for each in newest] == ["three", "two"]
        assert [each.reason for each in await spool.dead_letters.page(5, before=newest[-1].number)] == ["one"]
        assert [each.reason for each in await spool.dead_letters.page(5, wanted=Selection(output=ES))] == ["three"]
        assert [each.reason for each in await spool.dead_letters.page(5, wanted=Selection(pipeline="mcp"))] == ["one"]
        assert await spool.dead_letters.get(newest[0].number) == newest[0]
        assert await spool.dead_letters.get(99) is None
        assert spool.usage().dead_letters == 3


# --- marks and pending -------------------------------------------------------------------------------------


async def test_a_chunk_goes_when_its_last_output_has_settled_it(tmp_path: Path) -> None:
    """One output's mark does not delete what another still owes."""
    async with opened(tmp_path) as spool:
        (number,) = await spool.commit(intake(chunk(3, BOTH)))
        await spool.settle(delivered(ES, number, 3))
        assert (spool.held(ES).events, spool.held(ARCHIVE).events) == (0, 3)
        assert await spool.chunk(number) is not None
        await spool.settle(delivered(ARCHIVE, number, 3))
        assert await spool.chunk(number) is None
        assert (spool.usage().chunks, spool.usage().oldest) == (0, None)


async def test_pending_rows_hold_their_chunk_and_no_other(tmp_path: Path) -> None:
    """What was parked stays owed while the mark passes it, across a restart, until it is settled."""
    parked = Pending(ES, 1, "closed-index", [0, 2], attempt=1, why="index_closed_exception")
    async with opened(tmp_path) as spool:
        await spool.commit(intake(chunk(3), chunk(4, first=3)))
        await spool.settle(delivered(ES, 2, 5, parked))
        assert (spool.mark(ES), spool.held(ES).events, spool.usage().chunks) == (2, 2, 1)
    async with opened(tmp_path) as spool:
        assert await spool.pending(ES) == [parked]
        assert (spool.mark(ES), spool.held(ES).events) == (2, 2)
        assert await spool.fresh(ES, 0, 2**20) == []
        await spool.settle(delivered(ES, 2, 1, Pending(ES, 1, "closed-index", [2], 2)))
        assert spool.held(ES).events == 1
        await spool.settle(delivered(ES, 2, 1, Pending(ES, 1, "closed-index", [])))
        assert (spool.held(ES).events, spool.held(ES).oldest, spool.usage().chunks) == (0, None, 0)


async def test_a_mark_never_passes_what_is_still_to_come(tmp_path: Path) -> None:
    """A mark beyond the last chunk is cut back to it, and one behind is ignored."""
    async with opened(tmp_path) as spool:
        await spool.commit(intake(chunk(1), chunk(1)))
        await spool.settle(Settlement(ES, 1000))
        await spool.settle(Settlement(ES, 1))
        assert spool.mark(ES) == 2
        await spool.commit(intake(chunk(1)))
        assert len(await spool.fresh(ES, 2, 2**20)) == 1


async def test_numbers_are_never_used_twice(tmp_path: Path) -> None:
    """After everything was deleted and the spool opened anew, numbers go on."""
    async with opened(tmp_path) as spool:
        await spool.commit(intake(chunk(1)))
        await spool.settle(Settlement(ES, 1))
    async with opened(tmp_path) as spool:
        assert await spool.commit(intake(chunk(1))) == [2]


async def test_a_removed_outputs_backlog_waits_for_it(tmp_path: Path) -> None:
    """An output that left the configuration keeps what it owes, and goes on when it is back."""
    async with opened(tmp_path) as spool:
        await spool.commit(intake(chunk(3, BOTH)))
    async with opened(tmp_path, outputs={ES: OUTPUTS[ES]}) as spool:
        await spool.settle(Settlement(ES, 1))
        assert {name: held.events for name, held in spool.backlog_of_removed_outputs().items()} == {"archive (file)": 3}
    async with opened(tmp_path) as spool:
        assert [each.number for each in await spool.fresh(ARCHIVE, 0, 2**20)] == [1]
        assert spool.backlog_of_removed_outputs() == {}


async def test_a_new_output_starts_with_the_next_commit(tmp_path: Path) -> None:
    """An output that was not there before owes nothing of what is."""
    async with opened(tmp_path, outputs={ES: OUTPUTS[ES]}) as spool:
        await spool.commit(intake(chunk(1)))
    async with opened(tmp_path) as spool:
        assert spool.mark(ARCHIVE) == 1
        await spool.commit(intake(chunk(1, BOTH)))
        assert [each.number for each in await spool.fresh(ARCHIVE, 1, 2**20)] == [2]


# --- waiting -----------------------------------------------------------------------------------------------


async def test_waiting_commits_share_one(tmp_path: Path) -> None:
    """What waits while a commit is under way goes into the next one, and all are resolved in order."""
    metrics = Metrics()
    async with opened(tmp_path, metrics=metrics) as spool:
        done: list[int] = []
        futures = [spool.submit(intake(chunk(1, first=number))) for number in range(200)]
        for number, future in enumerate(futures):
            future.add_done_callback(lambda _, number=number: done.append(number))  # type: ignore[misc]
        assert [await future for future in futures] == [[number] for number in range(1, 201)]
        await asyncio.sleep(0)
        assert done == list(range(200))
        assert metrics.counter(COMMITS)._value.get() < 50


async def test_news_are_of_chunks_that_name_the_output(tmp_path: Path) -> None:
    """Who waits for news of an output sleeps over the chunks of others."""
    async with opened(tmp_path) as spool:
        waiting = asyncio.ensure_future(spool.news(ARCHIVE, 0))
        await spool.commit(intake(chunk(1)))
        await asyncio.sleep(0)
        assert not waiting.done()
        await spool.commit(intake(chunk(1, BOTH)))
        assert await waiting == 2


async def test_room_comes_back_when_something_is_settled(tmp_path: Path) -> None:
    """Above the limit `room` waits, and the settlement that frees pages wakes it."""
    async with opened(tmp_path, max_bytes=400_000) as spool:
        while spool.has_room():
            await spool.commit(intake(chunk(20, line=noise(2000))))
        waiting = asyncio.ensure_future(spool.room())
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await spool.settle(Settlement(ES, 10**6))
        await waiting
        assert spool.usage().bytes < 400_000


# --- errors ------------------------------------------------------------------------------------------------


async def test_one_bad_intake_does_not_fail_its_neighbours(tmp_path: Path) -> None:
    """Of a group the intake that cannot be encoded, or written, fails alone."""
    crooked = intake(chunk(3))
    crooked.chunks[0].tags.pop()
    unwritable = intake(chunk(1))
    unwritable.letters = [letter()]
    unwritable.letters[0].time = 2**70
    async with opened(tmp_path) as spool:
        futures = [spool.submit(each) for each in (intake(chunk(1)), crooked, unwritable, intake(chunk(1)))]
        results = await asyncio.gather(*futures, return_exceptions=True)
        assert isinstance(results[0], list)
        assert isinstance(results[1], SpoolError)
        assert isinstance(results[2], SpoolError)
        assert isinstance(results[3], list)
        assert spool.usage().chunks == 2
        assert spool.ledger()[OutputKey(ES, Term.ASSIGNED)] == 2
    async with opened(tmp_path) as spool:
        assert spool.held(ES).events == 2
        assert spool.usage().dead_letters == 0


async def test_an_unknown_output_fails_alone(tmp_path: Path) -> None:
    """A chunk for an output that the spool does not know is an error and leaves nothing."""
    async with opened(tmp_path) as spool:
        with pytest.raises(SpoolError):
            await spool.commit(intake(chunk(1, ("nobody",))))
        with pytest.raises(SpoolError):
            await spool.settle(Settlement("nobody", 1))
        assert await spool.commit(intake(chunk(1)))


async def test_the_second_daemon_is_told_who_has_it(tmp_path: Path) -> None:
    """A spool that is in use is not opened a second time, and the error names the process."""
    async with opened(tmp_path):
        with pytest.raises(SpoolError, match=f"in use by process {os.getpid()}"):
            await new_spool(tmp_path).open()


async def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    """A spool below a file is a SpoolError that names the path."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match="folder cannot be used"):
        await new_spool(tmp_path / "file" / "spool").open()


async def test_closing_waits_for_what_was_submitted(tmp_path: Path) -> None:
    """What was handed in before the end is committed; what comes after is refused."""
    spool = new_spool(tmp_path)
    await spool.open()
    futures = [spool.submit(intake(chunk(1))) for _ in range(20)]
    await spool.close()
    assert [future.result() for future in futures] == [[number] for number in range(1, 21)]
    with pytest.raises(SpoolError, match="closed"):
        await spool.commit(intake(chunk(1)))
    assert await numbers(ES, tmp_path) == list(range(1, 21))


async def test_a_cancelled_commit_disturbs_nobody(tmp_path: Path) -> None:
    """Whoever stops waiting for a commit leaves the others' results as they are."""
    async with opened(tmp_path) as spool:
        first = spool.submit(intake(chunk(1)))
        second = spool.submit(intake(chunk(1)))
        first.cancel()
        assert await second == [2]


async def test_a_mark_passes_over_what_only_others_owe(tmp_path: Path) -> None:
    """An output that is seldom named looks at no chunk of a dead one's backlog; a restart changes nothing of it."""
    async with opened(tmp_path) as spool:
        for _ in range(20):
            await spool.commit(intake(chunk(1, ("archive",))))
        (number,) = await spool.commit(intake(chunk(1)))
        assert (spool.mark("elasticsearch"), spool.mark("archive")) == (number - 1, 0)
        assert [each.number for each in await spool.fresh("elasticsearch", 0, 2**20)] == [number]
    async with opened(tmp_path) as spool:
        assert [each.number for each in await spool.fresh("elasticsearch", 0, 2**20)] == [number]
        await spool.settle(delivered("elasticsearch", number, 1))
        assert (spool.held("elasticsearch").events, spool.held("archive").events) == (0, 20)


# --- another configuration ---------------------------------------------------------------------------------


async def _take(spool: Spool, outputs: dict[str, str]) -> None:
    await spool.take(spool._settings, await spool.register(outputs), {})


async def test_another_configuration_s_outputs(tmp_path: Path) -> None:
    """A new one begins with the next commit, a removed one keeps its backlog, and has it again when it is back."""
    async with opened(tmp_path) as spool:
        await spool.commit(intake(chunk(3, BOTH)))
        await _take(spool, {ES: ES, "new": "file"})
        assert spool.held("new").events == 0
        assert spool.backlog_of_removed_outputs()["archive (file)"].events == 3
        await spool.commit(intake(chunk(2, (ES, "new"), first=3)))
        assert [len(each.tags) for each in await spool.fresh("new", 0, 2**20)] == [2]
        assert [len(each.tags) for each in await spool.fresh(ES, 0, 2**20)] == [3, 2]
        with pytest.raises(KeyError):
            spool.mark(ARCHIVE)
        await _take(spool, OUTPUTS)
        assert [len(each.tags) for each in await spool.fresh(ARCHIVE, 0, 2**20)] == [3]
        assert spool.backlog_of_removed_outputs()["new (file)"].events == 2
        await spool.commit(intake(chunk(1, (ES,), first=5)))
    said = read_sums(tmp_path)
    assert said is not None
    assert sorted(output.name for output in said.outputs.values()) == [ARCHIVE, ES, "new"]
    async with opened(tmp_path) as spool:
        assert (spool.held(ES).events, spool.held(ARCHIVE).events) == (6, 3)


async def test_an_output_of_another_type_gets_nothing_of_the_first(tmp_path: Path) -> None:
    """Under the same name, in memory and on disk, and back again."""
    other = {ES: ES, ARCHIVE: "store"}
    async with opened(tmp_path) as spool:
        ids = await spool.register(other)
        await spool.commit(intake(chunk(3, BOTH)))  # between the registration and the change
        await spool.take(spool._settings, ids, {})
        assert await spool.fresh(ARCHIVE, spool.mark(ARCHIVE), 2**20) == []
        (number,) = await spool.commit(intake(chunk(2, (ARCHIVE,), first=3)))
        assert [each.number for each in await spool.fresh(ARCHIVE, spool.mark(ARCHIVE), 2**20)] == [number]
        await _take(spool, OUTPUTS)
        assert [len(each.tags) for each in await spool.fresh(ARCHIVE, spool.mark(ARCHIVE), 2**20)] == [3]
        await spool.settle(Settlement(ARCHIVE, mark=number))
        assert spool.held(ARCHIVE).events == 0
    async with opened(tmp_path, other) as spool:
        assert spool.held(ARCHIVE).events == 2


async def test_the_limit_can_be_raised(tmp_path: Path) -> None:
    """Who waits for room has it at once."""
    async with opened(tmp_path, max_bytes=2**16, ballast=2**12) as spool:
        while spool.has_room():
            await spool.commit(intake(chunk(10, (ES,), line=noise(2000))))
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(spool.room())
            await asyncio.sleep(0.01)
            assert not waiting.done()
            await spool.take(settings(tmp_path), await spool.register(OUTPUTS), {})
            await asyncio.wait_for(waiting, 5)
