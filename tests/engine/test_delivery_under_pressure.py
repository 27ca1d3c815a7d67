"""The delivery loop before a peer that is busy, closed or hangs, over a real spool."""

from __future__ import annotations

import asyncio
import logging
import tracemalloc
from pathlib import Path

import pytest

from mcp_ingest.context import SystemClock
from mcp_ingest.engine import delivery as module
from mcp_ingest.engine import watchdog
from mcp_ingest.engine.delivery import Delivery
from mcp_ingest.engine.status import sums
from mcp_ingest.metrics import Metrics
from mcp_ingest.spool import Spool
from mcp_ingest.verdict import DELIVERED, AllDelivered, Each, Park, Refused, Request, Retry, TooLarge, Unknown, Verdicts
from tests.engine.parts import LOG, Scripted, delivering, intake, spool_in, until

LINE = b'{"m":"' + b"x" * 993 + b'"}'  # 1,001 bytes


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "pause", lambda attempt, asked=None: 0.02)
    monkeypatch.setattr(module, "PARKED", 0.05)


def _drained(spool: Spool) -> bool:
    return spool.held("out").events == 0 and spool.usage().chunks == 0


def _assert_closed(spool: Spool) -> None:
    rows = sums(spool.ledger(), {"out": spool.held("out").events}, spool.usage().dead_letters)
    assert all(row["closed"] for row in rows), rows


def _value(metrics: Metrics, name: str) -> float | None:
    return metrics.registry.get_sample_value(name, {"output": "out"})


class Closing(Scripted):
    """Parks what goes to a destination in `closed`; remembers how many events each try of it had."""

    def __init__(self, *closed: str) -> None:
        super().__init__()
        self.closed = set(closed)
        self.tries: list[int] = []

    async def write(self, request: Request) -> Verdicts:
        places = [place for part in request.parts for place in part.destinations]
        ids = [event_id for part in request.parts for event_id in part.ids]
        verdicts = [Park("blocked") if place in self.closed else DELIVERED for place in places]
        self.requests.append(request.count)
        if any(isinstance(verdict, Park) for verdict in verdicts):
            self.tries.append(sum(isinstance(verdict, Park) for verdict in verdicts))
        for event_id, verdict in zip(ids, verdicts, strict=True):
            self.doubles += verdict is DELIVERED and event_id in self.stored
            self.stored |= {event_id: b""} if verdict is DELIVERED else {}
        return Each(list(verdicts))


# --- more and fewer at once --------------------------------------------------------------------------------


async def test_a_busy_peer_gets_fewer_requests_at_once(tmp_path: Path) -> None:
    """While it answers 429 the limit goes down to one, the metric says so; afterwards it comes back."""
    busy = True
    most = 0

    class Busy(Scripted):
        max_request_bytes = 3000

        async def write(self, request: Request) -> Verdicts:
            nonlocal most
            self.requests.append(request.count)
            most = max(most, delivery._in_flight)
            await asyncio.sleep(0.005)
            if busy:
                return Each([Retry("429", overloaded=True)] * request.count)
            self.store(request)
            return AllDelivered()

    output, metrics = Busy(), Metrics()
    async with spool_in(tmp_path) as spool:
        for number in range(200):
            await spool.commit(intake(f"id{number}", line=LINE))
        delivery = Delivery("out", output, spool, SystemClock(), metrics, LOG)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(delivery.run())
            await until(lambda: _value(metrics, "mcp_ingest_output_concurrency") == 1)
            most = 0
            await asyncio.sleep(0.1)
            assert most == 1
            busy = False
            await until(lambda: _drained(spool))
            assert _value(metrics, "mcp_ingest_output_concurrency") == 4
            task.cancel()
        _assert_closed(spool)
    assert not output.doubles


async def test_retry_after_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent before the time that the peer asked for, whatever comes in meanwhile."""
    monkeypatch.setattr(module, "pause", lambda attempt, asked=None: asked or 0.02)
    output = Scripted(Unknown("429", after=0.4, overloaded=True))
    async with spool_in(tmp_path) as spool:
        await spool.commit(intake("a"))
        async with delivering(spool, output):
            await until(lambda: output.requests)
            began = asyncio.get_running_loop().time()
            await spool.commit(intake("b"))
            await until(lambda: len(output.requests) >= 2)
            assert asyncio.get_running_loop().time() - began > 0.35
            await until(lambda: _drained(spool))


# --- smaller and larger requests ---------------------------------------------------------------------------


async def test_a_request_counts_what_stands_beside_the_lines(tmp_path: Path) -> None:
    """The bound is one of the body: lines and their actions."""

    class Beside(Scripted):
        max_request_bytes = 10_000

        def bytes_beside(self, destination: str) -> int:
            return 999

    output = Beside()
    async with spool_in(tmp_path) as spool:
        await spool.commit(intake(*[f"id{number}" for number in range(40)], line=LINE))
        async with delivering(spool, output):
            await until(lambda: _drained(spool))
    assert output.requests == [5] * 8


async def test_a_limit_of_the_peer_is_learned(tmp_path: Path) -> None:
    """After one 413 the requests that follow fit: it is not met again with each of them."""
    refused = 0

    def strict(request: Request) -> Verdicts:
        nonlocal refused
        if request.size > 10_000:
            refused += 1
            return TooLarge("413")
        output.store(request)
        return Each([DELIVERED] * request.count)

    output = Scripted(*[strict] * 1000)
    output.max_request_bytes = 64_000
    async with spool_in(tmp_path) as spool:
        for number in range(300):
            await spool.commit(intake(f"id{number}", line=LINE))
        async with delivering(spool, output):
            await until(lambda: _drained(spool))
        _assert_closed(spool)
    assert len(output.stored) == 300
    assert refused <= 12


async def test_a_peer_without_memory_gets_smaller_requests(tmp_path: Path) -> None:
    """What is refused whole for want of memory would be refused for ever if it came again as it is."""

    def short(request: Request) -> Verdicts:
        if request.size > 10_000:
            return Unknown("429 circuit_breaking_exception", overloaded=True, smaller=True)
        output.store(request)
        return Each([DELIVERED] * request.count)

    output = Scripted(*[short] * 1000)
    async with spool_in(tmp_path) as spool:
        await spool.commit(intake(*[f"id{number}" for number in range(300)], line=LINE))
        async with delivering(spool, output):
            await until(lambda: _drained(spool))
        _assert_closed(spool)
    assert len(output.stored) == 300


async def test_a_connection_that_breaks_under_much_gets_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that cuts every large request off gets smaller ones from the third failure on, and all arrives."""
    monkeypatch.setattr("mcp_ingest.engine.request_size.LEAST", 1000)

    def cutting(request: Request) -> Verdicts:
        if request.size > 100_000:
            return Unknown("reset")
        output.store(request)
        return AllDelivered()

    output = Scripted(*[cutting] * 1000)
    output.max_request_bytes = 1_000_000
    async with spool_in(tmp_path) as spool:
        await spool.commit(intake(*[f"id{number}" for number in range(700)], line=LINE))
        async with delivering(spool, output):
            await until(lambda: _drained(spool))
    assert len(output.stored) == 700


# --- destinations that take nothing ------------------------------------------------------------------------


async def test_a_closed_destination_is_tried_with_one_chunk_and_wakes(tmp_path: Path) -> None:
    """Not all that rests for it comes with each try; when it opens all of it goes, and it is forgotten."""
    output = Closing("shut")
    async with spool_in(tmp_path) as spool:
        for number in range(50):
            await spool.commit(intake(f"shut{number}", destination="shut"))
            await spool.commit(intake(f"open{number}", destination="open"))
        metrics = Metrics()
        delivery = Delivery("out", output, spool, SystemClock(), metrics, LOG)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(delivery.run())
            await until(lambda: len(output.stored) == 50)
            assert delivery.parked() == {"shut": "blocked"}
            assert _value(metrics, "mcp_ingest_output_parked_destinations") == 1
            await until(lambda: len(output.tries) >= 5)
            assert set(output.tries[1:]) == {1}
            output.closed.clear()
            await until(lambda: _drained(spool))
            assert delivery.parked() == {}
            assert _value(metrics, "mcp_ingest_output_parked_destinations") == 0
            task.cancel()
        _assert_closed(spool)
    assert len(output.stored) == 100
    assert not output.doubles


async def test_a_destination_that_judges_its_events_is_open(tmp_path: Path) -> None:
    """A dead letter of an index is an answer of the index: it is no longer closed."""
    output = Scripted(Each([Park("blocked")]), Each([Refused("no")]))
    async with spool_in(tmp_path) as spool:
        await spool.commit(intake("a"))
        async with delivering(spool, output) as delivery:
            await until(lambda: delivery.parked())
            await until(lambda: _drained(spool))
            assert delivery.parked() == {}
        _assert_closed(spool)


async def test_a_parked_backlog_takes_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of small chunks for a closed index are rows on disk: less than 100 bytes of memory each."""
    monkeypatch.setattr(module, "PARKED", 60.0)
    output = Closing("shut")
    async with spool_in(tmp_path) as spool:
        await spool.commit(intake("first", destination="shut"))
        async with delivering(spool, output) as delivery:
            await until(lambda: delivery.parked())
            await asyncio.gather(*[spool.submit(intake(f"w{n}", destination="shut")) for n in range(1000)])
            await until(lambda: spool.mark("out") == 1001)
            tracemalloc.start()
            for start in range(0, 4000, 500):
                some = [spool.submit(intake(f"n{start + n}", destination="shut")) for n in range(500)]
                await asyncio.gather(*some)
            await until(lambda: spool.mark("out") == 5001)
            rows = len(delivery._account._rows)
            snapshot = tracemalloc.take_snapshot()
            tracemalloc.stop()
        assert rows == 0
        kept = snapshot.filter_traces([tracemalloc.Filter(True, "*/engine/*")])
        assert sum(trace.size for trace in kept.statistics("filename")) < 4000 * 100
        assert spool.held("out").events == 5001
        _assert_closed(spool)
    async with spool_in(tmp_path) as spool:
        output.closed.clear()
        async with delivering(spool, output):
            await until(lambda: _drained(spool), 30)
        _assert_closed(spool)
    assert len(output.stored) == 5001
    assert not output.doubles


async def test_parts_of_one_chunk_that_rest_at_different_times_are_all_sent(tmp_path: Path) -> None:
    """A chunk that is cut over several requests, closed in between, loses none of its events."""

    class Cut(Closing):
        max_request_events = 3

    output = Cut("shut")
    async with spool_in(tmp_path) as spool:
        await spool.commit(intake(*[f"e{number}" for number in range(20)], destination="shut"))
        async with delivering(spool, output):
            await until(lambda: len(output.tries) > 12)
            output.closed.clear()
            await until(lambda: _drained(spool))
        _assert_closed(spool)
    assert len(output.stored) == 20
    assert not output.doubles


async def test_destinations_that_open_and_close_at_random_lose_nothing(tmp_path: Path) -> None:
    """Fifty indices, each closed now and then, with retries between: all is there once in the end."""
    output = Closing(*[f"i{number}" for number in range(0, 50, 2)])
    async with spool_in(tmp_path) as spool:
        async with delivering(spool, output):
            for turn in range(400):
                await spool.commit(intake(f"a{turn}", f"b{turn}", destination=f"i{turn % 50}"))
                if turn % 10 == 0:
                    output.closed ^= {f"i{turn % 7}", f"i{turn % 11}"}
            output.closed.clear()
            await until(lambda: _drained(spool), 20)
        _assert_closed(spool)
    assert len(output.stored) == 800
    assert not output.doubles


# --- a delivery that hangs ---------------------------------------------------------------------------------


async def test_a_request_that_outlives_its_deadline_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An output that swallows its cancellation stalls nothing for good: one line, one count, all begins anew."""
    monkeypatch.setattr(watchdog, "DEADLINES", 3)

    class Swallowing(Scripted):
        deadline = 0.1

        async def write(self, request: Request) -> Verdicts:
            if not self.requests:
                self.requests.append(request.count)
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    await asyncio.Event().wait()
            return await super().write(request)

    output, metrics = Swallowing(), Metrics()
    caplog.set_level(logging.INFO)
    async with spool_in(tmp_path) as spool:
        await spool.commit(intake("a"))
        delivery = Delivery("out", output, spool, SystemClock(), metrics, LOG)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(delivery.run())
            await until(lambda: _drained(spool))
            assert delivery.state == "up"
            task.cancel()
        _assert_closed(spool)
    assert _value(metrics, "mcp_ingest_delivery_stalls_total") == 1
    (line,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert line.getMessage().startswith("output out: delivery stalled and begins anew: a request has not ended for")
    assert line.exc_info is None


async def test_a_loop_that_was_not_woken_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events that nobody looks at are found by the watchdog, whatever the fault."""
    output = Scripted()
    output.deadline = 0.1
    async with spool_in(tmp_path) as spool:

        async def deaf(name: str, after: int) -> int:
            await asyncio.Event().wait()
            return 0

        monkeypatch.setattr(spool, "news", deaf)
        async with delivering(spool, output):
            await asyncio.sleep(0.05)
            await spool.commit(intake("a"))
            await until(lambda: _drained(spool))


async def test_waiting_with_a_reason_is_no_stall(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A long pause, a closed index, an event that is retried later: each explains why nothing is sent."""
    monkeypatch.setattr(module, "pause", lambda attempt, asked=None: asked or 0.02)
    monkeypatch.setattr(module, "PARKED", 4.0)
    answers: tuple[Verdicts, ...] = (
        Unknown("503", after=4.0),
        Each([Park("blocked")]),
        Each([Retry("429", after=4.0)]),
    )

    async def wait(number: int, answer: Verdicts) -> None:
        output = Scripted(answer)
        output.deadline = 0.5
        async with spool_in(tmp_path / str(number)) as spool:
            await spool.commit(intake("a"))
            async with delivering(spool, output):
                await until(lambda: _drained(spool))

    await asyncio.gather(*[wait(number, answer) for number, answer in enumerate(answers)])
    assert not [record for record in caplog.records if "stalled" in record.getMessage()]
