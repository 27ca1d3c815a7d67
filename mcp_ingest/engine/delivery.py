"""The delivery loop of one output: it picks the rows, sends, and does what the verdicts say.

Rows are picked *across* chunks, bounded by bytes and by requests in flight, so that many small commits do not become
many small requests, and nothing waits for a timer. The waiting, the backing off, the halving, the bisecting, the
parking, the one repair (on the copy that is sent, never in the spool) and the dead letters are done here; an output
only sends and answers. One output's trouble is nobody else's: each has its own loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import logging
from collections import deque
from collections.abc import Mapping, Sequence

from mcp_ingest.component import Output
from mcp_ingest.context import Clock
from mcp_ingest.engine import letters
from mcp_ingest.engine.account import Account, Work
from mcp_ingest.engine.repair import move_aside
from mcp_ingest.engine.retry import PARKED, pause
from mcp_ingest.errors import OutputError, SpoolError
from mcp_ingest.event import Term, describe
from mcp_ingest.metrics import DELIVERED_BYTES, DELIVERY_SECONDS, INGEST_SECONDS, OUTPUT_UP, RETRIES, Metrics
from mcp_ingest.spool import Spool
from mcp_ingest.spool.model import DeadLetter, Settlement
from mcp_ingest.spool.overflow import InHand
from mcp_ingest.verdict import (
    AllDelivered,
    Delivered,
    Duplicate,
    Each,
    Malformed,
    Park,
    ParkAll,
    Part,
    Redirected,
    Refused,
    Request,
    Retry,
    TooLarge,
    Unknown,
    Verdict,
    Verdicts,
)

#: Bytes of chunks that may wait in memory for the retry of some of their events; more of the backlog stays on disk.
DELAYED_BYTES = 32 * 2**20

#: A request smaller than this part of the largest is sent only when no other is under way: at 300 small commits a
#: second each would be a request and a settlement of its own otherwise, 0.5 ms of CPU.
SMALL_PART = 8
#: Seconds after which it does not wait any more; so often it is looked at what came meanwhile.
PATIENCE = 0.01

_DONE: dict[type[Verdict], Term] = {
    Delivered: Term.DELIVERED,
    Duplicate: Term.DUPLICATE,
    Redirected: Term.REDIRECTED,
}


class Delivery:
    """One output's loop. `state` is "starting", "up", "waiting" or "parked", `why` the sentence that explains it."""

    def __init__(
        self,
        name: str,
        output: Output,
        spool: Spool,
        clock: Clock,
        metrics: Metrics,
        log: logging.Logger,
        masks: Mapping[str, letters.Mask] | None = None,
    ) -> None:
        """`masks` are the rules of each pipeline, by its name, for the dead letters of its events."""
        self.name = name
        self.state, self.why = "starting", ""
        self._output = output
        self._spool = spool
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self._masks = masks or {}
        self._account = Account(name, spool.mark(name))
        self._again_whole: deque[list[Work]] = deque()  # requests that are to be sent as they are
        self._ready: deque[Work] = deque()
        self._stored: dict[str, dict[int, None]] = {}  # chunks with resting rows in order, by destination
        self._delayed: list[tuple[float, int, Work]] = []
        self._delayed_bytes = 0  # of the chunks that these hold in memory
        self._order = itertools.count()
        self._in_flight = 0
        self._sent = 0.0  # monotonic time of the last request
        self._failures = 0
        self._resume = 0.0  # monotonic time before which nothing is sent
        self._closed: dict[str, float] = {}  # destinations that take nothing, until this monotonic time
        self._wake = asyncio.Event()
        self._recording = asyncio.Lock()
        self._settling: Settlement | None = None  # what is being recorded
        self.still = asyncio.Lock()  # nothing is taken from the spool while somebody has it
        self._unrecorded = False  # the disk takes no settlement

    # --- the loop ---

    async def run(self) -> None:
        """Make the output ready, then deliver until cancelled; requests under way are cancelled with it.

        Whatever is wrong here delays this output and nothing else: after a fault everything begins anew from what
        is committed, as after a restart.
        """
        await self._start()
        for attempt in itertools.count(1):
            try:
                await self._begin()
                await self._deliver()
            except Exception as error:
                task = asyncio.current_task()
                if task is not None and task.cancelling():  # a group's errors come before the cancellation it met
                    raise asyncio.CancelledError from error
                why = letters.safe_text(describe(_innermost(error)))
                self._log.exception("output %s: delivery failed: a fault in mcp-ingest or its disk", self.name)
                self._metrics.gauge(OUTPUT_UP, output=self.name).set(0)
                self._is("waiting", why)
            await asyncio.sleep(pause(attempt))

    async def _begin(self) -> None:
        """Forget what is in memory; take up what is committed."""
        async with self.still:
            rows = await self._spool.pending(self.name)  # behind every settlement that is under way
            self._account = Account(self.name, self._spool.mark(self.name))
            for row in rows:
                self._account.restored(row)
        for waiting in (self._again_whole, self._ready, self._stored, self._delayed, self._closed):
            waiting.clear()
        self._in_flight = self._failures = self._delayed_bytes = 0
        self._resume, self._unrecorded, self._settling = 0.0, False, None
        for row in rows:
            self._stored.setdefault(row.destination, {})[row.chunk] = None
        self._is("up", "")

    async def _deliver(self) -> None:
        async with asyncio.TaskGroup() as requests:
            news = requests.create_task(self._follow())
            try:
                while True:
                    works = await self._next()
                    self._in_flight += 1
                    requests.create_task(self._send(works))
            finally:
                news.cancel()

    async def _start(self) -> None:
        for attempt in itertools.count(1):
            try:
                await self._output.start()
            except Exception as error:
                if not isinstance(error, OutputError):
                    self._log.exception("output %s failed: a fault in mcp-ingest", self.name)
                self._is("waiting", letters.safe_text(describe(error)))
                self._metrics.gauge(OUTPUT_UP, output=self.name).set(0)
                await asyncio.sleep(min(pause(attempt), PARKED))
            else:
                return

    async def _follow(self) -> None:
        """Wake the loop when something was committed; not for each commit while an answer is awaited."""
        seen = self._account.cursor
        while True:
            seen = await self._spool.news(self.name, seen)
            self._wake.set()
            if self._in_flight:
                await asyncio.sleep(PATIENCE)

    async def _next(self) -> list[Work]:
        """The next request's works, as soon as there is one to send and it may be sent."""
        while True:
            self._wake.clear()
            now = self._clock.monotonic()
            if self._may_send() and now >= self._resume:
                if self._again_whole:
                    return self._again_whole.popleft()
                self._due(now)
                works = await self._gather(now)
                if self._is_worth_it(works, now):
                    self._sent = now
                    return works
                self._ready.extendleft(reversed(works))
                await self._record()  # what was parked without a request
            await self._sleep(now)

    def _is_worth_it(self, works: list[Work], now: float) -> bool:
        """Whether to send these now; what is small waits for the answer to a request under way, and so grows.

        With nothing under way whatever there is goes out at once, and nothing waits long for an answer that is late.
        """
        if not works or not self._in_flight or now >= self._sent + PATIENCE:
            return bool(works)
        return sum(_size(work, work.indices) for work in works) * SMALL_PART >= self._output.max_request_bytes

    def _may_send(self) -> bool:
        limit = 1 if self._failures else self._output.concurrency
        return self._in_flight < limit and not self._unrecorded

    async def _sleep(self, now: float) -> None:
        """Until something changes: a commit, an answer, the end of a pause."""
        moment = self._next_moment(now)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if moment is None else max(0.0, moment - now)):
                await self._wake.wait()

    def _next_moment(self, now: float) -> float | None:
        """When the next pause ends; None while only an answer or a commit can bring something to do."""
        if not self._may_send():
            return None
        if self._resume > now:
            return self._resume
        moments = [moment for moment, _, _ in self._delayed[:1]]
        if self._ready:
            moments.append(self._sent + PATIENCE)
        if not self._holds_enough():
            moments += [self._closed.get(destination, now) for destination in self._stored]
        return min(moments, default=None)

    def _due(self, now: float) -> None:
        while self._delayed and self._delayed[0][0] <= now:
            work = heapq.heappop(self._delayed)[2]
            self._delayed_bytes -= work.chunk.line_bytes
            self._ready.append(work)

    def _holds_enough(self) -> bool:
        """Whether what waits for its retry is so much that no more of the backlog may come into memory."""
        return self._delayed_bytes > DELAYED_BYTES

    async def _gather(self, now: float) -> list[Work]:
        """Works up to the output's limits: retried ones, pending ones, fresh ones; at least one if there is any."""
        works: list[Work] = []
        size = count = 0
        output = self._output
        while size < output.max_request_bytes and count < output.max_request_events:
            if not self._ready:
                async with self.still:
                    await self._fetch(now, output.max_request_bytes - size)
            if not self._ready:
                break
            work = self._ready.popleft()
            if self._closed.get(work.destination, 0.0) > now:
                self._park(work, "parked")
                if self._ready:
                    continue
                self._wake.set()  # there may be more; what was parked is recorded first
                break
            fits = _fitting(work, output.max_request_bytes - size, output.max_request_events - count)
            if fits < len(work.indices):
                if works and (output.whole_chunks or _is_whole(work)):
                    fits = 0  # a chunk that is sent whole is sent as it is stored
                elif output.whole_chunks:
                    fits = len(work.indices)
                elif not works:
                    fits = max(fits, 1)
                if fits < len(work.indices):
                    self._ready.appendleft(_part(work, work.indices[fits:]))
                if not fits:
                    break
                work = _part(work, work.indices[:fits])
            works.append(work)
            size += _size(work, work.indices)
            count += len(work.indices)
        return works

    async def _fetch(self, now: float, room: int) -> None:
        """More works: of destinations that may be tried again first, then fresh chunks."""
        if self._holds_enough():
            return
        for destination, numbers in self._stored.items():
            if self._closed.get(destination, 0.0) <= now:
                number = next(iter(numbers))
                del numbers[number]
                if not numbers:
                    del self._stored[destination]
                await self._take_up(destination, number)
                return
        for chunk in await self._spool.fresh(self.name, self._account.cursor, room):
            self._ready.extend(self._account.fetched(chunk))

    async def _take_up(self, destination: str, number: int) -> None:
        indices, attempt = self._account.taken_up(number, destination)
        chunk = await self._spool.chunk(number)
        if chunk is None:
            self._account.lost([number])
        elif indices:
            self._ready.append(Work(chunk, destination, indices, attempt))

    # --- one request ---

    async def _send(self, works: list[Work]) -> None:
        request = Request([_as_part(work) for work in works])
        began = self._clock.monotonic()
        try:
            async with asyncio.timeout(self._output.deadline):
                verdicts: Verdicts = await self._output.write(request)
        except TimeoutError:
            verdicts = Unknown(f"no answer within {self._output.deadline:g} s")
        except Exception as error:  # a fault of the output's code: the events are safe, it is tried again
            self._log.exception("output %s failed: a fault in mcp-ingest", self.name)
            verdicts = Unknown(describe(error))
        finally:
            self._in_flight -= 1
            self._wake.set()
        self._metrics.histogram(DELIVERY_SECONDS, output=self.name).observe(self._clock.monotonic() - began)
        self._act(works, verdicts)
        await self._record()

    def _act(self, works: list[Work], verdicts: Verdicts) -> None:
        match verdicts:
            case AllDelivered():
                self._answered()
                for work in works:
                    self._account.settled(work, work.indices, Term.DELIVERED)
                    self._observe(work, work.indices)
            case Each(each):
                self._answered()
                self._act_on_each(works, each)
            case TooLarge(why) | Malformed(why):
                self._answered()
                self._halve(works, why, "too_large" if isinstance(verdicts, TooLarge) else "malformed")
            case Unknown(why, after):
                self._fail("waiting", why, pause(self._failures + 1, after))
                self._metrics.counter(RETRIES, output=self.name, reason="unknown").inc()
                self._again_whole.appendleft(works)
            case ParkAll(why):
                self._fail("parked", why, PARKED)
                self._metrics.counter(RETRIES, output=self.name, reason="parked").inc()
                self._again_whole.appendleft(works)

    def _act_on_each(self, works: list[Work], each: list[Verdict]) -> None:
        start = 0
        for work in works:
            mine = each[start : start + len(work.indices)]
            start += len(work.indices)
            groups: dict[type[Verdict], list[tuple[int, Verdict]]] = {}
            for index, verdict in zip(work.indices, mine, strict=True):
                groups.setdefault(type(verdict), []).append((index, verdict))
            for kind, events in groups.items():
                indices = [index for index, _ in events]
                if kind in _DONE:
                    self._account.settled(work, indices, _DONE[kind])
                    self._observe(work, indices)
                elif kind is Refused:
                    self._refuse(work, events)
                else:
                    self._again(work, indices, events[0][1])

    def _again(self, work: Work, indices: list[int], verdict: Verdict) -> None:
        """Retry these events, or park their destination."""
        again = _part(work, indices)
        again.attempt += 1
        assert isinstance(verdict, Retry | Park)
        why = letters.safe_text(verdict.why)
        reason = "parked" if isinstance(verdict, Park) else "retry"
        self._metrics.counter(RETRIES, output=self.name, reason=reason).inc(len(indices))
        now = self._clock.monotonic()
        if isinstance(verdict, Retry):
            self._account.postponed(again, indices, why)
            moment = now + pause(again.attempt, verdict.after)
            heapq.heappush(self._delayed, (moment, next(self._order), again))
            self._delayed_bytes += again.chunk.line_bytes
            return
        if self._closed.get(work.destination, 0.0) <= now:
            self._log.warning("output %s: %s takes nothing for now: %s", self.name, work.destination, why)
        self._closed[work.destination] = now + PARKED
        self._park(again, why)

    def _park(self, work: Work, why: str) -> None:
        """Hold these events as a pending row alone, out of memory, until their destination is tried again."""
        self._account.postponed(work, work.indices, why, resting=True)
        self._stored.setdefault(work.destination, {})[work.chunk.number] = None

    def _refuse(self, work: Work, events: list[tuple[int, Verdict]]) -> None:
        """Repair each event once, where the peer named the field; a dead letter otherwise."""
        repaired: dict[int, bytes] = {}
        for index, verdict in events:
            assert isinstance(verdict, Refused)
            line = None
            if verdict.field is not None and index not in work.repaired:
                line = move_aside(work.chunk.lines[index], verdict.field)
            if line is None:
                self._account.died(work, index, self._letter(work, index, verdict.why, verdict.kind))
            else:
                repaired[index] = line
        if repaired:
            again = _part(work, list(repaired))
            again.repaired = repaired
            self._metrics.counter(RETRIES, output=self.name, reason="repaired").inc(len(repaired))
            self._ready.appendleft(again)

    def _halve(self, works: list[Work], why: str, kind: str) -> None:
        """Two halves of what was refused whole; an event that is alone is a dead letter."""
        total = sum(len(work.indices) for work in works)
        if total == 1:
            work = works[0]
            self._account.died(work, work.indices[0], self._letter(work, work.indices[0], why, kind))
            return
        self._metrics.counter(RETRIES, output=self.name, reason=kind).inc()
        first, second = _halves(works, total // 2)
        self._again_whole.extendleft([second, first])

    # --- what the verdicts leave behind ---

    def _letter(self, work: Work, index: int, why: str, kind: str) -> DeadLetter:
        chunk = work.chunk
        return DeadLetter(
            time=self._clock.time_ns(),
            reason=letters.safe_text(why),
            kind=kind,
            tag=chunk.tags[index],
            record=letters.safe_line(chunk.lines[index], self._masks.get(chunk.pipeline)),
            event_id=chunk.ids[index],
            event_time=chunk.times[index],
            pipeline=chunk.pipeline,
            output=self.name,
            destination=work.destination,
        )

    def _observe(self, work: Work, indices: Sequence[int]) -> None:
        age = max(0, self._clock.time_ns() - work.chunk.created) / 1e9
        self._metrics.histogram(INGEST_SECONDS, output=self.name).observe(age)
        self._metrics.counter(DELIVERED_BYTES, output=self.name).inc(_size(work, indices))

    async def _record(self) -> None:
        """Write the books down; on a failing disk again and again, nothing else is lost meanwhile."""
        async with self._recording:
            settlement = self._settling = self._account.settlement()
            for attempt in itertools.count(1):
                if settlement is None:
                    return
                try:
                    await self._spool.settle(settlement)
                except SpoolError as error:
                    self._unrecorded = True
                    self._log.error("output %s: what was delivered could not be recorded: %s", self.name, error)
                    await asyncio.sleep(pause(attempt))
                else:
                    self._settling = None
                    if self._unrecorded:
                        self._unrecorded = False
                        self._wake.set()
                    return

    # --- what others let go of (engine/overflow.py) ---

    def in_hand(self) -> InHand:
        """The chunks of which this holds events, or of which what became of them is not recorded yet."""
        recording = {row.chunk for row in self._settling.pending} if self._settling else set()
        others = frozenset(self._account.in_hand() | recording)
        return InHand(self._spool.mark(self.name), self._account.cursor, others)

    def forget(self, numbers: set[int]) -> None:
        """The spool let go of what was owed of these chunks, none of them in hand."""
        self._account.lost(numbers)
        for destination, resting in list(self._stored.items()):
            for number in numbers & resting.keys():
                del resting[number]
            if not resting:
                del self._stored[destination]

    async def give_up(self, numbers: set[int], reason: str) -> list[Work]:
        """Let go of what waits here of these chunks and is not being sent."""
        groups = [*self._again_whole, self._ready, [work for _, _, work in self._delayed]]
        gone = [work for group in groups for work in group if work.chunk.number in numbers]
        kept = ([work for work in group if work.chunk.number not in numbers] for group in self._again_whole)
        self._again_whole = deque(group for group in kept if group)
        self._ready = deque(work for work in self._ready if work.chunk.number not in numbers)
        self._delayed = [each for each in self._delayed if each[2].chunk.number not in numbers]
        heapq.heapify(self._delayed)
        self._delayed_bytes = sum(work.chunk.line_bytes for _, _, work in self._delayed)
        for work in gone:
            self._account.settled(work, work.indices, Term.DROPPED, reason)
        await self._record()
        return gone

    def _answered(self) -> None:
        self._failures, self._resume = 0, 0.0
        self._is("up", "")

    def _fail(self, state: str, why: str, wait: float) -> None:
        self._failures += 1
        self._resume = self._clock.monotonic() + wait
        self._metrics.gauge(OUTPUT_UP, output=self.name).set(0)
        self._is(state, letters.safe_text(why))

    def _is(self, state: str, why: str) -> None:
        """Note the state; a change of it is one line of log."""
        if state == "up":
            self._metrics.gauge(OUTPUT_UP, output=self.name).set(1)
            if self.state in ("waiting", "parked"):
                self._log.info("output %s: delivers again", self.name)
        elif (state, why) != (self.state, self.why):
            self._log.warning("output %s: %s; nothing is lost, it is tried again", self.name, why)
        self.state, self.why = state, why


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _as_part(work: Work) -> Part:
    chunk, indices = work.chunk, work.indices
    places = [work.destination] * len(indices)
    if _is_whole(work):
        return Part(chunk.name, chunk.ids, chunk.times, chunk.tags, places, chunk.lines, chunk.entries)
    return Part(
        chunk.name,
        [chunk.ids[i] for i in indices],
        [chunk.times[i] for i in indices],
        [chunk.tags[i] for i in indices],
        places,
        [work.repaired.get(i, chunk.lines[i]) for i in indices],
    )


def _is_whole(work: Work) -> bool:
    """Whether the work has all of its chunk's events, as they are stored."""
    return len(work.indices) == len(work.chunk.tags) and not work.repaired


def _part(work: Work, indices: Sequence[int]) -> Work:
    return Work(work.chunk, work.destination, indices, work.attempt, work.repaired)


def _size(work: Work, indices: Sequence[int]) -> int:
    """Bytes of the lines of these events of the work."""
    if len(indices) == len(work.chunk.tags):
        return work.chunk.line_bytes
    lines = work.chunk.lines
    return sum([len(lines[index]) for index in indices])


def _fitting(work: Work, room: int, events: int) -> int:
    """How many of the work's events fit into what is left of a request."""
    if len(work.indices) <= events and _is_whole(work) and work.chunk.line_bytes <= room:
        return len(work.indices)
    lines = work.chunk.lines
    for fitting, index in enumerate(work.indices[:events]):
        room -= len(lines[index])
        if room < 0:
            return fitting
    return min(len(work.indices), events)


def _halves(works: list[Work], middle: int) -> tuple[list[Work], list[Work]]:
    """The same events as two requests, the first with `middle` events."""
    first: list[Work] = []
    second: list[Work] = []
    for work in works:
        here = min(middle, len(work.indices))
        middle -= here
        if here:
            first.append(_part(work, work.indices[:here]))
        if here < len(work.indices):
            second.append(_part(work, work.indices[here:]))
    return first, second
