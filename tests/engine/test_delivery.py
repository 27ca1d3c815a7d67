"""The delivery loop does what the verdicts say, over a real spool."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mcp_ingest.context import SystemClock
from mcp_ingest.engine import delivery as module
from mcp_ingest.engine import pace
from mcp_ingest.engine.delivery import Delivery
from mcp_ingest.engine.status import sums
from mcp_ingest.errors import OutputError, SpoolError
from mcp_ingest.event import Batch, Record, Term
from mcp_ingest.metrics import Metrics
from mcp_ingest.spool import Spool
from mcp_ingest.spool.model import Chunk, OutputKey, Settlement
from mcp_ingest.verdict import (
    DELIVERED,
    DUPLICATE,
    AllDelivered,
    Each,
    Malformed,
    Park,
    ParkAll,
    Refused,
    Request,
    Retry,
    TooLarge,
    Unknown,
    Verdicts,
)
from tests.engine.parts import LOG, Scripted, delivering, intake, spool_in, until


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "pause", lambda attempt, asked=None: 0.02)
    monkeypatch.setattr(module, "PARKED", 0.05)


def _drained(spool: Spool) -> bool:
    return spool.held("out").events == 0 and spool.usage().chunks == 0


def _counts(spool: Spool) -> dict[Term, int]:
    return {key.term: count for key, count in spool.ledger().items() if isinstance(key, OutputKey)}


def _assert_closed(spool: Spool) -> None:
    rows = sums(spool.ledger(), {"out": spool.held("out").events}, spool.usage().dead_letters)
    assert all(row["closed"] for row in rows), rows


async def test_many_small_commits_become_few_requests(tmp_path: Path) -> None:
    """What waits goes across chunks into one request, and chunks go once they are delivered."""
    output = Scripted()
    async with spool_in(tmp_path) as spool:
        for number in range(200):
            await spool.commit(intake(f"id{number}"))
        async with delivering(spool, output):
            await until(lambda: _drained(spool))
        _assert_closed(spool)
    assert len(output.stored) == 200
    assert not output.doubles
    assert len(output.requests) <= 4


async def test_only_the_retryable_events_are_sent_again(tmp_path: Path) -> None:
    """Of a mixed answer the delivered are counted, the 429 comes again alone, the refused is a dead letter."""
    answer = Each([DELIVERED, Retry("429 busy"), Refused("no such type", kind="mapping"), DUPLICATE])
    output = Scripted(answer)
    async with spool_in(tmp_path) as spool:
        await spool.commit(intake("a", "b", "c", "d"))
        async with delivering(spool, output):
            await until(lambda: _drained(spool))
        assert _counts(spool) == {Term.ASSIGNED: 4, Term.DELIVERED: 2, Term.DUPLICATE: 1, Term.DEAD_LETTERED: 1}
        (letter,) = await spool.dead_letters.page(10)
        assert (letter.reason, letter.kind, letter.output) == ("no such type", "mapping", "out")
        assert letter.event_id.startswith("c")
        _assert_closed(spool)
    assert output.requests == [4, 1]
    assert [event_id[0] for event_id in output.stored] == ["b"]


async def test_an_unknown_result_is_sent_again_with_the_same_ids(tmp_path: Path) -> None:
    """After a timeout or a cut answer the same request comes again, and nothing is counted before."""
    output = Scripted(Unknown("reset"), Unknown("reset"))
    async with spool_in(tmp_path) as spool:
        await spool.commit(intake("a", "b"))
        async with delivering(spool, output) as delivery:
            await until(lambda: delivery.state == "waiting")
            assert delivery.why == "reset"
            await until(lambda: _drained(spool))
            assert delivery.state == "up"
        _assert_closed(spool)
    assert output.requests == [2, 2, 2]


async def test_a_request_has_a_deadline(tmp_path: Path) -> None:
    """An output that never answers is given up after its deadline, and asked again."""

    class Hanging(Scripted):
        deadline = 0.05

        async def write(self, request: Request) -> Verdicts:
            if not self.requests:
                self.requests.append(request.count)
                await asyncio.Event().wait()
            return await super().write(request)

    output = Hanging()
    async with spool_in(tmp_path) as spool:
        await spool.commit(intake("a"))
        async with delivering(spool, output):
            await until(lambda: _drained(spool))
    assert output.requests == [1, 1]


async def test_too_large_is_halved_until_the_guilty_one_is_alone(tmp_path: Path) -> None:
    """A 413 halves the request; an event too large by itself is a dead letter, the others arrive."""

    def strict(request: Request) -> Verdicts:
        if any(event_id.startswith("big") for part in request.parts for event_id in part.ids):
            return TooLarge("413")
        output.store(request)
        return Each([DELIVERED] * request.count)

    output = Scripted(*[strict] * 50)
    async with spool_in(tmp_path) as spool:
        for group in ("abc", "def", "gh"):
            await spool.commit(intake(*group))
        await spool.commit(intake("big", "i"))
        async with delivering(spool, output):
            await until(lambda: _drained(spool))
        assert _counts(spool)[Term.DEAD_LETTERED] == 1
        assert (await spool.dead_letters.page(10))[0].event_id.startswith("big")
        _assert_closed(spool)
    assert sorted(event_id[0] for event_id in output.stored) == list("abcdefghi")
    assert not output.doubles


async def test_a_malformed_request_is_bisected(tmp_path: Path) -> None:
    """A body refused whole is cut until the event that spoils it is alone."""

    def strict(request: Request) -> Verdicts:
        ids = [event_id for part in request.parts for event_id in part.ids]
        if any(event_id.startswith("e") for event_id in ids):
            return Malformed("bad line")
        output.store(request)
        return Each([DELIVERED] * request.count)

    output = Scripted(*[strict] * 50)
    async with spool_in(tmp_path) as spool:
        await spool.commit(intake(*"abcdefgh"))
        async with delivering(spool, output):
            await until(lambda: _drained(spool))
        assert (await spool.dead_letters.page(10))[0].kind == "malformed"
        _assert_closed(spool)
    assert sorted(event_id[0] for event_id in output.stored) == list("abcdfgh")


async def test_a_refused_field_is_moved_aside_once(tmp_path: Path) -> None:
    """A mapping conflict gets one repair on the copy that is sent; what is refused again is a dead letter."""
    refused = Refused("mapper_parsing", field="n")
    output = Scripted(Each([refused]))
    async with spool_in(tmp_path) as spool:
        await spool.commit(intake("a"))
        async with delivering(spool, output):
            await until(lambda: _drained(spool))
        assert output.stored["a".ljust(28, "-")] == b'{"conflict.n":"1"}'
        output.answers = [Each([refused]), Each([Refused("still", field="conflict.n")])]
        await spool.commit(intake("b"))
        async with delivering(spool, output):
            await until(lambda: _drained(spool))
        (letter,) = await spool.dead_letters.page(10)
        assert letter.record == b'{"n":1}'
        _assert_closed(spool)


async def test_a_parked_destination_holds_up_no_other(tmp_path: Path) -> None:
    """While one index takes nothing the others go on; it is tried again by itself, and at a restart."""
    blocked = True

    class Blocking(Scripted):
        def address(self, batch: Batch) -> list[str]:
            raise AssertionError("destinations are settled at commit time")

        async def write(self, request: Request) -> Verdicts:
            self.requests.append(request.count)
            places = [place for part in request.parts for place in part.destinations]
            ids = [event_id for part in request.parts for event_id in part.ids]
            verdicts = [Park("index blocked") if place == "shut" and blocked else DELIVERED for place in places]
            self.stored |= {i: b"" for i, verdict in zip(ids, verdicts, strict=True) if verdict is DELIVERED}
            return Each(list(verdicts))

    output = Blocking()
    async with spool_in(tmp_path) as spool:
        for number in range(20):
            await spool.commit(intake(f"shut{number}", destination="shut"))
            await spool.commit(intake(f"open{number}", destination="open"))
        async with delivering(spool, output):
            await until(lambda: len(output.stored) == 20)
            await until(lambda: spool.held("out").events == 20)
        assert spool.usage().chunks == 20
        _assert_closed(spool)
    async with spool_in(tmp_path) as spool:
        async with delivering(spool, output):
            await until(lambda: len(output.requests) > 2)
            blocked = False
            await until(lambda: _drained(spool))
        assert len(output.stored) == 40
        _assert_closed(spool)


async def test_park_all_waits_and_heals(tmp_path: Path) -> None:
    """Wrong credentials park the output with their reason; it heals by itself."""
    output = Scripted(ParkAll("401 refused"), ParkAll("401 refused"))
    async with spool_in(tmp_path) as spool:
        await spool.commit(intake("a"))
        async with delivering(spool, output) as delivery:
            await until(lambda: delivery.state == "parked")
            assert delivery.why == "401 refused"
            await until(lambda: _drained(spool))
            assert (delivery.state, delivery.why) == ("up", "")


async def test_what_was_not_delivered_is_delivered_at_the_next_start(tmp_path: Path) -> None:
    """A stop in the middle of a request loses nothing; a retry's pending row survives it, too."""
    output = Scripted(Each([DELIVERED, Retry("later", after=60), DELIVERED]), Unknown("gone", after=60))
    async with spool_in(tmp_path) as spool:
        await spool.commit(intake("a", "b", "c"))
        async with delivering(spool, output):
            await until(lambda: spool.held("out").events == 1)
            await spool.commit(intake("d"))
            await until(lambda: len(output.requests) >= 2)
    async with spool_in(tmp_path) as spool:
        assert spool.held("out").events in (1, 2)
        async with delivering(spool, output):
            await until(lambda: _drained(spool))
        assert _counts(spool) == {Term.ASSIGNED: 4, Term.DELIVERED: 4}
        _assert_closed(spool)


async def test_whole_chunks_are_never_cut(tmp_path: Path) -> None:
    """An output that replaces by chunk gets whole chunks, even above its request size."""

    class Whole(Scripted):
        whole_chunks = True
        max_request_bytes = 10
        max_request_events = 3

    output = Whole()
    async with spool_in(tmp_path) as spool:
        await spool.commit(intake(*"abcde"))
        await spool.commit(intake(*"fg"))
        async with delivering(spool, output):
            await until(lambda: _drained(spool))
    assert sorted(output.requests) == [2, 5]


async def test_a_fault_in_an_output_costs_nothing(tmp_path: Path) -> None:
    """An exception that an output should not have raised is a retry, not a loss."""

    def broken(request: Request) -> Verdicts:
        raise RuntimeError("bug")

    output = Scripted(broken, AllDelivered())
    async with spool_in(tmp_path) as spool:
        await spool.commit(intake("a"))
        async with delivering(spool, output):
            await until(lambda: _drained(spool))
    assert len(output.stored) == 1


async def test_a_retried_and_a_parked_event_of_one_chunk_are_sent_once_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The retry waits in memory while the parked one is taken up from its row: neither comes twice."""
    monkeypatch.setattr(module, "pause", lambda attempt, asked=None: asked or 0.02)
    output = Scripted(Each([Retry("429", after=0.2), Park("blocked"), DELIVERED]))
    async with spool_in(tmp_path) as spool:
        await spool.commit(intake("a", "b", "c"))
        async with delivering(spool, output):
            await until(lambda: _drained(spool))
            await asyncio.sleep(0.3)
            assert _counts(spool) == {Term.ASSIGNED: 3, Term.DELIVERED: 3}
        _assert_closed(spool)
    assert not output.doubles


@pytest.mark.parametrize("trouble", ["slow", "failing", "parked"])
async def test_waiting_takes_no_cpu(tmp_path: Path, trouble: str) -> None:
    """While a request is under way and pending rows are due, the loop rests."""
    turns = 0

    class Counting(SystemClock):
        @staticmethod
        def monotonic() -> float:
            nonlocal turns
            turns += 1
            return SystemClock.monotonic()

    class Slow(Scripted):
        concurrency = 1

        async def write(self, request: Request) -> Verdicts:
            if len(self.requests) == 1:
                self.requests.append(request.count)
                await asyncio.sleep(0.5)
                answers: dict[str, Verdicts] = {"slow": AllDelivered(), "failing": Unknown("x"), "parked": ParkAll("x")}
                return answers[trouble]
            return await super().write(request)

    output = Slow(Each([Retry("429", after=0.01), Park("blocked")]))
    async with spool_in(tmp_path) as spool:
        await spool.commit(intake("a", "b"))
        async with delivering(spool, output, clock=Counting()):
            await until(lambda: output.requests)
            await spool.commit(intake("c", destination="other"))
            await until(lambda: len(output.requests) > 1)
            await asyncio.sleep(0.06)
            turns = 0
            await asyncio.sleep(0.3)
            assert turns < 50
            await until(lambda: _drained(spool))


async def test_a_fault_at_the_start_is_tried_again(tmp_path: Path) -> None:
    """An exception that `start` should not have raised delays this output and ends nothing else."""
    failures = [OSError("no"), RuntimeError("bug")]

    class Faulty(Scripted):
        async def start(self) -> None:
            if failures:
                raise failures.pop()

    output = Faulty()
    async with spool_in(tmp_path) as spool:
        await spool.commit(intake("a"))
        async with delivering(spool, output) as delivery:
            await until(lambda: _drained(spool))
            assert delivery.state == "up"


async def test_an_answer_of_the_wrong_length_begins_anew(tmp_path: Path) -> None:
    """A fault in acting on an answer costs a pause; everything is sent again from what is committed."""
    output = Scripted(Each([Retry("429", after=60), DELIVERED, DELIVERED]), Each([]))
    async with spool_in(tmp_path) as spool:
        await spool.commit(intake("a", "b", "c"))
        async with delivering(spool, output) as delivery:
            await until(lambda: spool.held("out").events == 1)
            await spool.commit(intake("d", "e"))
            await until(lambda: _drained(spool))
            assert delivery.state == "up"
        assert _counts(spool) == {Term.ASSIGNED: 5, Term.DELIVERED: 5}
        _assert_closed(spool)


async def test_a_spool_that_cannot_be_read_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the spool while the loop picks rows ends neither the loop nor the daemon."""
    output = Scripted()
    async with spool_in(tmp_path) as spool:
        await spool.commit(intake("a"))

        async def failing(name: str, after: int, size: int) -> list[Chunk]:
            monkeypatch.undo()
            raise SpoolError("the disk does not answer")

        monkeypatch.setattr(spool, "fresh", failing)
        monkeypatch.setattr(module, "pause", lambda attempt, asked=None: 0.02)
        async with delivering(spool, output):
            await until(lambda: _drained(spool))


async def test_nothing_more_is_sent_while_it_cannot_be_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that takes no settlement stops the sending, so that memory and duplicates do not grow with it."""

    class Narrow(Scripted):
        max_request_events = 1

    output = Narrow()
    async with spool_in(tmp_path) as spool:
        for number in range(50):
            await spool.commit(intake(f"id{number}"))
        real, broken = spool.settle, True

        async def settle(settlement: Settlement) -> None:
            if broken:
                raise SpoolError("no disk")
            await real(settlement)

        monkeypatch.setattr(spool, "settle", settle)
        async with delivering(spool, output):
            await until(lambda: output.requests)
            await asyncio.sleep(0.2)
            assert len(output.requests) < 10
            broken = False
            await until(lambda: _drained(spool))
        _assert_closed(spool)
    assert not output.doubles


async def test_what_waits_for_its_retry_is_bounded_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that is busy for every event gets no more than a bounded part of the backlog until it takes some."""
    monkeypatch.setattr("mcp_ingest.engine.waiting.DELAYED_BYTES", 10_000)
    busy = True

    def answer(request: Request) -> Verdicts:
        return Each([Retry("429", after=0.3)] * request.count) if busy else AllDelivered()

    class Narrow(Scripted):
        max_request_bytes = 2000

    output = Narrow(*[answer] * 1000)
    async with spool_in(tmp_path) as spool:
        for number in range(50):
            await spool.commit(intake(f"id{number}", line=b'{"m":"' + b"x" * 1000 + b'"}'))
        monkeypatch.setattr(module, "pause", lambda attempt, asked=None: asked or 0.02)
        async with delivering(spool, output):
            await until(lambda: output.requests)
            await asyncio.sleep(0.2)
            assert sum(output.requests) <= 20
            busy, output.answers = False, []
            await until(lambda: _drained(spool))
        _assert_closed(spool)


async def test_a_parked_backlog_is_recorded_as_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the only destination takes nothing, what is read becomes pending rows on disk without a request."""
    monkeypatch.setattr(module, "PARKED", 60.0)
    output = Scripted(Each([Park("blocked")]))
    async with spool_in(tmp_path) as spool:
        await spool.commit(intake("first"))
        async with delivering(spool, output):
            await until(lambda: output.requests)
            for number in range(50):
                await spool.commit(intake(f"id{number}"))
            await until(lambda: spool.mark("out") == 51)
        assert output.requests == [1]
        assert spool.held("out").events == 51
        _assert_closed(spool)


async def test_a_letter_is_masked_by_its_pipeline_s_rules(tmp_path: Path) -> None:
    """Without exemptions, like a letter of the way in; the sentence of an output that cannot start is masked, too."""

    def mask(record: Record) -> Record:
        return {**record, "internal": "***"}

    class Refusing(Scripted):
        async def start(self) -> None:
            if not self.requests:
                self.requests.append(0)
                raise OutputError("no, password=hunter22")

    output = Refusing(Each([Refused("no")]))
    async with spool_in(tmp_path) as spool:
        await spool.commit(intake("a", line=b'{"internal":"codename"}'))
        async with delivering(spool, output, masks={"p": mask}) as delivery:
            await until(lambda: delivery.state == "waiting")
            assert "hunter22" not in delivery.why
            await until(lambda: _drained(spool))
        assert (await spool.dead_letters.page(1))[0].record == b'{"internal":"***"}'


async def test_a_cancellation_that_meets_a_fault_is_one(tmp_path: Path) -> None:
    """A stop at the very moment of a fault stops: on Python 3.11 the group's error hides the cancellation."""

    def stopping(request: Request) -> Verdicts:
        task.cancel()
        return Each([])

    async with spool_in(tmp_path) as spool:
        await spool.commit(intake("a"))
        delivery = Delivery("out", Scripted(stopping), spool, SystemClock(), Metrics(), LOG)
        task = asyncio.ensure_future(delivery.run())
        await asyncio.wait([task], timeout=5)
        assert task.cancelled()


class _Slow(Scripted):
    """Answers when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.may_answer = asyncio.Event()

    async def write(self, request: Request) -> Verdicts:
        self.requests.append(request.count)
        await self.may_answer.wait()
        self.store(request)
        return AllDelivered()


async def test_what_is_small_waits_for_the_answer_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a request is under way small commits gather; with its answer they go out as one."""
    monkeypatch.setattr(pace, "PATIENCE", 60.0)
    output = _Slow()
    async with spool_in(tmp_path) as spool, delivering(spool, output):
        await spool.commit(intake("first"))
        await until(lambda: output.requests == [1])
        for number in range(20):
            await spool.commit(intake(f"e{number}"))
        assert output.requests == [1]
        output.may_answer.set()
        await until(lambda: _drained(spool))
        assert output.requests == [1, 20]


async def test_what_is_small_does_not_wait_long(tmp_path: Path) -> None:
    """An answer that is late holds up nothing else: what waits goes out beside it after a moment."""
    output = _Slow()
    async with spool_in(tmp_path) as spool, delivering(spool, output):
        await spool.commit(intake("first"))
        await until(lambda: output.requests == [1])
        await spool.commit(intake("second"))
        await until(lambda: output.requests == [1, 1], seconds=5)
        output.may_answer.set()
        await until(lambda: _drained(spool))


async def test_after_much_what_is_small_waits_for_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a request of many events small commits gather for a moment, though nothing is under way."""
    monkeypatch.setattr(pace, "_SPACING", 0.5e-3)
    monkeypatch.setattr(pace, "_MOST_SPACING", 0.5)  # so long that a slow disk makes no difference
    output = Scripted()
    output.max_request_bytes = 1_000_000
    async with spool_in(tmp_path) as spool, delivering(spool, output):
        await spool.commit(intake(*(f"much{number}" for number in range(1500))))
        await until(lambda: output.requests == [1500])
        for number in range(3):
            await spool.commit(intake(f"e{number}"))
        await until(lambda: _drained(spool))
        assert output.requests == [1500, 3]
        await spool.commit(intake("little"))
        await until(lambda: _drained(spool))
        assert output.requests == [1500, 3, 1]


async def test_what_is_large_goes_out_beside_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that is large enough does not wait for the one under way."""
    monkeypatch.setattr(pace, "PATIENCE", 60.0)
    output = _Slow()
    output.max_request_bytes = 800
    async with spool_in(tmp_path) as spool, delivering(spool, output):
        await spool.commit(intake("first"))
        await until(lambda: output.requests == [1])
        await spool.commit(intake("large", line=b'{"n":"%s"}' % (b"x" * 200)))
        await until(lambda: len(output.requests) == 2)
        output.may_answer.set()
        await until(lambda: _drained(spool))


async def test_a_delivery_that_is_to_finish_leaves_exactly_what_is_not_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is under way is answered and recorded, of a chunk of which others wait, too; the next one sends the rest."""
    monkeypatch.setattr(module, "pause", lambda attempt, asked=None: 3600)
    go_on = asyncio.Event()

    class Slow(Scripted):
        concurrency = 1
        max_request_events = 4

        async def write(self, request: Request) -> Verdicts:
            await go_on.wait()
            self.requests.append(request.count)
            late = Each([DELIVERED, Retry("later"), DELIVERED, DELIVERED])
            stored = [event_id for part in request.parts for event_id in part.ids]
            self.stored.update(dict.fromkeys([event_id for event_id in stored if event_id != stored[1]], b""))
            return late

    first, second = Slow(), Scripted()
    async with spool_in(tmp_path) as spool, asyncio.TaskGroup() as group:
        await spool.commit(intake(*(str(number) for number in range(10))))
        delivery = Delivery("out", first, spool, SystemClock(), Metrics(), LOG)
        task = group.create_task(delivery.run())
        await until(lambda: delivery._in_flight == 1)
        delivery.finish()
        await asyncio.sleep(0.05)
        assert not task.done()
        go_on.set()
        await asyncio.wait([task], timeout=5)
        assert task.done()
        assert spool.held("out").events == 7
        async with delivering(spool, second):
            await until(lambda: _drained(spool))
        _assert_closed(spool)
    assert first.requests == [4]
    assert len(first.stored) == 3
    assert len(second.stored) == 7
    assert not first.stored.keys() & second.stored.keys()


async def test_a_delivery_that_has_not_begun_finishes_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the output cannot be made ready nothing is under way; what is being opened is not left half open."""
    monkeypatch.setattr(module, "pause", lambda attempt, asked=None: 3600)
    monkeypatch.setattr(module, "PARKED", 3600)

    class Slow(Scripted):
        starts = 0

        async def start(self) -> None:
            self.starts += 1
            if self.starts == 1:
                raise OutputError("no")

    async with spool_in(tmp_path) as spool, asyncio.TaskGroup() as group:
        delivery = Delivery("out", Slow(), spool, SystemClock(), Metrics(), LOG)
        task = group.create_task(delivery.run())
        await until(lambda: delivery.state == "waiting")
        delivery.finish()
        await asyncio.wait([task], timeout=5)
        assert task.done()
