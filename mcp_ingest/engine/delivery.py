"""The delivery loop of one output: it picks the rows, sends, and does what the verdicts say.

Rows are picked *across* chunks, bounded by bytes and by requests in flight, so that many small commits do not become
many small requests; where little comes nothing waits. The waiting, the backing off, the halving, the bisecting, the
parking, the one repair (on the copy that is sent, never in the spool) and the dead letters are done here; an output
only sends and answers. One output's trouble is nobody else's: each has its own loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Mapping, Sequence

from mcp_ingest.component import Output
from mcp_ingest.context import Clock
from mcp_ingest.engine import letters
from mcp_ingest.engine.account import Account, Work
from mcp_ingest.engine.pace import PATIENCE, SMALLER_FROM, Pace
from mcp_ingest.engine.parking import Parking
from mcp_ingest.engine.recovered import innermost, recovered
from mcp_ingest.engine.repair import move_aside
from mcp_ingest.engine.retry import PARKED, pause
from mcp_ingest.engine.waiting import Waiting
from mcp_ingest.engine.watchdog import Stalled, Watchdog
from mcp_ingest.engine.works import as_part, check, fitting, halves, is_whole, line_bytes, part
from mcp_ingest.errors import DamagedChunkError, OutputError, SpoolError, SpoolRenewedError
from mcp_ingest.event import Term, describe
from mcp_ingest.metrics import (
    DELIVERED_BYTES,
    DELIVERY_SECONDS,
    DELIVERY_STALLS,
    INGEST_SECONDS,
    OUTPUT_CONCURRENCY,
    OUTPUT_PARKED,
    OUTPUT_UP,
    RETRIES,
    Metrics,
)
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
    Redirected,
    Refused,
    Request,
    Retry,
    TooLarge,
    Unknown,
    Verdict,
    Verdicts,
)

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
        self._waiting = Waiting()
        self._parking = Parking()  # what rests as pending rows, and the destinations that take nothing
        self._in_flight = 0
        self._failures = 0
        self._resume = 0.0  # monotonic time before which nothing is sent
        self._pace = Pace(output)
        self._watchdog = Watchdog(output.deadline, clock.monotonic())
        self._wake = asyncio.Event()
        self._has_slot = asyncio.Event()  # else as many requests are under way as may be
        self._recording = asyncio.Lock()
        self._settling: Settlement | None = None  # what is being recorded
        self.still = asyncio.Lock()  # nothing is taken from the spool while somebody has it
        self._unrecorded = False  # the disk takes no settlement
        self._finishing = asyncio.Event()

    # --- the loop ---

    async def run(self) -> None:
        """Make the output ready, then deliver until `finish`; cancelled, requests under way are cancelled with it.

        Whatever is wrong here delays this output and nothing else: after a fault everything begins anew from what
        is committed, as after a restart.
        """
        await self._start()
        for attempt in itertools.count(1):
            if self._finishing.is_set():
                return
            try:
                await self._begin()
                await self._deliver()
                continue
            except Exception as error:
                task = asyncio.current_task()
                if task is not None and task.cancelling():  # a group's errors come before the cancellation it met
                    raise asyncio.CancelledError from error
                cause = innermost(error)
                if await recovered(cause, self._spool):
                    continue
                if isinstance(cause, Stalled):
                    why = f"delivery stalled and begins anew: {cause}"
                    self._metrics.counter(DELIVERY_STALLS, output=self.name).inc()
                else:
                    why = letters.safe_text(describe(cause))
                    self._log.exception("output %s: delivery failed: a fault in mcp-ingest or its disk", self.name)
                self._metrics.gauge(OUTPUT_UP, output=self.name).set(0)
                self._is("waiting", why)
            await self._nap(pause(attempt))

    def finish(self) -> None:
        """Send nothing more: `run` returns when what is under way is answered and recorded, event by event.

        Whoever delivers for this output next goes on with exactly what is not settled.
        """
        self._finishing.set()
        self._wake.set()

    async def _nap(self, seconds: float) -> None:
        """Wait so long, or until it is to finish."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._finishing.wait()

    async def _begin(self) -> None:
        """Forget what is in memory; take up what is committed."""
        async with self.still:
            resting = await self._spool.resting(self.name)  # behind every settlement that is under way
            self._account = Account(self.name, self._spool.mark(self.name))
        self._waiting.clear()
        self._in_flight = self._failures = 0
        self._has_slot.set()
        self._resume, self._unrecorded, self._settling = 0.0, False, None
        self._parking.clear(resting)
        self._pace = Pace(self._output)
        self._watchdog = Watchdog(self._output.deadline, self._clock.monotonic())
        self._show()
        self._is("up", "")

    async def _deliver(self) -> None:
        async with asyncio.TaskGroup() as requests:
            news = requests.create_task(self._follow())
            watch = requests.create_task(self._watch())
            try:
                while works := await self._next():
                    self._in_flight += 1
                    if not self._may_send():
                        self._has_slot.clear()
                    requests.create_task(self._send(works))
            finally:
                news.cancel()
                watch.cancel()
        await self._lay_down()

    async def _lay_down(self) -> None:
        """What is in hand becomes pending rows, so that what was answered of its chunks is not sent again."""
        for work in self._waiting.works():
            self._account.postponed(work, work.indices, "the configuration changed", resting=True)
        await self._record()

    async def _watch(self) -> None:
        """Raise `Stalled` when nothing happens though something is owed, and nothing explains it."""
        while True:
            await asyncio.sleep(self._watchdog.patience / 4)
            now = self._clock.monotonic()
            moment = self._next_moment(now)
            if not self._spool.held(self.name).events or self._unrecorded or (moment is not None and moment > now):
                self._watchdog.moved(now)
            why = self._watchdog.stalled(now)
            if why is not None:
                raise Stalled(why)

    async def _start(self) -> None:
        for attempt in itertools.count(1):
            if self._finishing.is_set():
                return
            try:
                await self._output.start()
            except Exception as error:
                if not isinstance(error, OutputError):
                    self._log.exception("output %s failed: a fault in mcp-ingest", self.name)
                self._is("waiting", letters.safe_text(describe(error)))
                self._metrics.gauge(OUTPUT_UP, output=self.name).set(0)
                await self._nap(min(pause(attempt), PARKED))
            else:
                return

    async def _follow(self) -> None:
        """Wake the loop when something was committed; not for each commit while an answer is awaited.

        While no further request may be sent an answer is all that can change something.
        """
        seen = self._account.cursor
        while True:
            seen = await self._spool.news(self.name, seen)
            self._wake.set()
            if self._in_flight:
                await asyncio.sleep(PATIENCE)
            await self._has_slot.wait()

    async def _next(self) -> list[Work]:
        """The next request's works, as soon as there is one to send and it may be sent; none once it is to finish."""
        while not self._finishing.is_set():
            self._wake.clear()
            now = self._clock.monotonic()
            if self._may_send() and now >= self._resume:
                if self._waiting.whole:
                    return self._waiting.whole.popleft()
                self._waiting.due(now)
                works = await self._gather(now)
                if self._is_worth_it(works, now):
                    self._pace.sent(now, sum(len(work.indices) for work in works))
                    return works
                self._waiting.put_back(works)
                await self._record()  # what was parked without a request
            await self._sleep(now)
        return []

    def _is_worth_it(self, works: list[Work], now: float) -> bool:
        """Whether to send these now; what is small waits a moment for more."""
        if not works or now >= self._pace.small_waits_until(self._in_flight):
            return bool(works)
        return not self._pace.is_small(sum(line_bytes(work) for work in works))

    def _may_send(self) -> bool:
        limit = 1 if self._failures else self._pace.requests
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
        moments = [
            self._waiting.next_due(),
            self._pace.small_waits_until(self._in_flight) if self._waiting.ready else None,
            None if self._waiting.holds_enough() else self._parking.moment(now),
        ]
        return min((moment for moment in moments if moment is not None), default=None)

    async def _gather(self, now: float) -> list[Work]:
        """Works up to the output's limits: retried ones, pending ones, fresh ones; at least one if there is any."""
        works: list[Work] = []
        size = count = 0
        most, most_events = self._pace.bytes, self._output.max_request_events
        while size < most and count < most_events:
            if not self._waiting.ready:
                async with self.still:
                    await self._fetch(now, most - size)
            if not self._waiting.ready:
                break
            work = self._waiting.ready.popleft()
            if not work.trial and self._parking.is_closed(work.destination, now):
                self._park(work, "parked")
                if self._waiting.ready:
                    continue
                self._wake.set()  # there may be more; what was parked is recorded first
                break
            beside = self._output.bytes_beside(work.destination)
            fits = self._fits(work, fitting(work, most - size, most_events - count, beside), first=not works)
            if fits < len(work.indices):
                self._waiting.ready.appendleft(part(work, work.indices[fits:]))
            if not fits:
                break
            work = part(work, work.indices[:fits])
            works.append(work)
            size += line_bytes(work) + beside * fits
            count += fits
        return works

    def _fits(self, work: Work, fits: int, *, first: bool) -> int:
        """How many of the work's events go into a request that has room for `fits` of them, perhaps for none."""
        if fits == len(work.indices):
            return fits
        if first:
            return len(work.indices) if self._output.whole_chunks else max(fits, 1)
        return 0 if self._output.whole_chunks or is_whole(work) else fits  # sent whole it is sent as it is stored

    async def _fetch(self, now: float, room: int) -> None:
        """More works: of destinations that may be tried again first, then fresh chunks."""
        if self._waiting.holds_enough():
            return
        resting = self._parking.take(now, now + PARKED)
        if resting is not None:
            await self._take_up(*resting)
            return
        for chunk in await self._spool.fresh(self.name, self._account.cursor, room):
            self._waiting.ready.extend(self._account.fetched(chunk))

    async def _take_up(self, destination: str, number: int, trial: bool) -> None:
        chunk = await self._spool.chunk(number)
        if not self._account.has(number, destination):
            for row in await self._spool.pending(self.name, number):
                if row.destination == destination:
                    self._account.restored(row)
        indices, attempt = self._account.taken_up(number, destination)
        if chunk is None:
            self._account.lost([number])
        elif indices:
            self._waiting.ready.append(Work(chunk, destination, indices, attempt, trial=trial))

    # --- one request ---

    async def _send(self, works: list[Work]) -> None:
        request = Request([as_part(work) for work in works])
        began = self._clock.monotonic()
        number, era = self._watchdog.begun(began), self._pace.begun(self._in_flight)
        try:
            async with asyncio.timeout(self._output.deadline):
                verdicts: Verdicts = await self._output.write(request)
        except TimeoutError:
            verdicts = Unknown(f"no answer within {self._output.deadline:g} s")
        except DamagedChunkError:
            raise
        except Exception as error:  # a fault of the output's code: the events are safe, it is tried again
            self._log.exception("output %s failed: a fault in mcp-ingest", self.name)
            verdicts = Unknown(describe(error))
        finally:
            self._in_flight -= 1
            self._watchdog.ended(number)
            self._has_slot.set()
            self._wake.set()
        seconds = self._clock.monotonic() - began
        self._metrics.histogram(DELIVERY_SECONDS, output=self.name).observe(seconds)
        size = sum([self._weight(work) for work in works])
        if self._pace.learn(verdicts, era, seconds, size, self._failures):
            self._show()
        self._act(works, verdicts)
        await self._record()
        self._watchdog.moved(self._clock.monotonic())

    def _weight(self, work: Work) -> int:
        """Bytes of a request that the work takes."""
        return line_bytes(work) + self._output.bytes_beside(work.destination) * len(work.indices)

    def _act(self, works: list[Work], verdicts: Verdicts) -> None:
        match verdicts:
            case AllDelivered():
                self._answered()
                for work in works:
                    self._account.settled(work, work.indices, Term.DELIVERED)
                    self._observe(work, work.indices)
                    self._open(work)
            case Each(each):
                self._answered()
                self._act_on_each(works, each)
            case TooLarge(why):
                self._answered()
                self._halve(works, why, "too_large")
            case Malformed(why):
                self._answered()
                self._halve(works, why, "malformed")
            case Unknown(why, after):
                self._fail("waiting", why, pause(self._failures + 1, after))
                self._metrics.counter(RETRIES, output=self.name, reason="unknown").inc()
                if self._failures == SMALLER_FROM:
                    check(works)  # a peer may hang up over data that cannot be inflated
                if verdicts.smaller or self._failures >= SMALLER_FROM:
                    self._waiting.put_back(works)  # to be gathered anew
                else:
                    self._waiting.whole.appendleft(works)
            case ParkAll(why):
                self._fail("parked", why, PARKED)
                self._metrics.counter(RETRIES, output=self.name, reason="parked").inc()
                self._waiting.whole.appendleft(works)

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
            if groups.keys() - {Retry, Park}:
                self._open(work)

    def _again(self, work: Work, indices: list[int], verdict: Verdict) -> None:
        """Retry these events, or park their destination."""
        again = part(work, indices)
        again.attempt += 1
        assert isinstance(verdict, Retry | Park)
        why = letters.safe_text(verdict.why)
        reason = "parked" if isinstance(verdict, Park) else "retry"
        self._metrics.counter(RETRIES, output=self.name, reason=reason).inc(len(indices))
        now = self._clock.monotonic()
        if isinstance(verdict, Retry):
            self._account.postponed(again, indices, why)
            moment = now + pause(again.attempt, verdict.after)
            self._waiting.delay(again, moment)
            return
        if self._parking.close(work.destination, why, now, now + PARKED):
            self._log.warning("output %s: %s takes nothing for now: %s", self.name, work.destination, why)
            self._show()
        again.trial = False
        self._park(again, why)

    def _park(self, work: Work, why: str) -> None:
        """Hold these events as a pending row alone, out of memory, until their destination is tried again."""
        if self._account.postponed(work, work.indices, why, resting=True):
            self._parking.rest(work.destination, work.chunk.number)

    def _open(self, work: Work) -> None:
        """Its destination takes something."""
        if self._parking and self._parking.open(work.destination):
            self._log.info("output %s: %s takes events again", self.name, work.destination)
            self._show()

    def parked(self) -> dict[str, str]:
        """The destinations that take nothing now, and why."""
        return self._parking.why()

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
            again = part(work, list(repaired))
            again.repaired = repaired
            self._metrics.counter(RETRIES, output=self.name, reason="repaired").inc(len(repaired))
            self._waiting.ready.appendleft(again)

    def _halve(self, works: list[Work], why: str, kind: str) -> None:
        """Two halves of what was refused whole, or smaller parts; an event that is alone is a dead letter."""
        total = sum(len(work.indices) for work in works)
        if total == 1:
            work = works[0]
            self._account.died(work, work.indices[0], self._letter(work, work.indices[0], why, kind))
            return
        self._metrics.counter(RETRIES, output=self.name, reason=kind).inc()
        if kind == "too_large" and not self._output.whole_chunks:
            self._waiting.put_back(works)  # to be gathered anew, now that the limit is known better
            return
        first, second = halves(works, total // 2)
        self._waiting.whole.extendleft([second, first])

    # --- what the verdicts leave behind ---

    def _letter(self, work: Work, index: int, why: str, kind: str) -> DeadLetter:
        chunk = work.chunk
        record, form = letters.safe_line(chunk.lines[index], self._masks.get(chunk.pipeline))
        return DeadLetter(
            time=self._clock.time_ns(),
            reason=letters.safe_text(why),
            kind=kind,
            tag=letters.safe_tag(chunk.tags[index], self._masks.get(chunk.pipeline)),
            record=record,
            event_id=chunk.ids[index],
            event_time=chunk.times[index],
            pipeline=chunk.pipeline,
            output=self.name,
            destination=work.destination,
            form=form,
            received=chunk.created,
        )

    def _observe(self, work: Work, indices: Sequence[int]) -> None:
        age = max(0, self._clock.time_ns() - work.chunk.created) / 1e9
        self._metrics.histogram(INGEST_SECONDS, output=self.name).observe(age)
        self._metrics.counter(DELIVERED_BYTES, output=self.name).inc(
            line_bytes(work if len(indices) == len(work.indices) else part(work, indices))
        )

    async def _record(self) -> None:
        """Write the books down; on a failing disk again and again, nothing else is lost meanwhile."""
        async with self._recording:
            settlement = self._settling = self._account.settlement()
            for attempt in itertools.count(1):
                if settlement is None:
                    return
                try:
                    await self._spool.settle(settlement)
                except SpoolRenewedError:
                    raise
                except SpoolError as error:
                    self._unrecorded = True
                    self._log.error("output %s: what was delivered could not be recorded: %s", self.name, error)
                    await asyncio.sleep(pause(attempt))
                else:
                    self._settling = None
                    self._account.recorded(settlement)
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
        self._parking.forget(numbers)

    async def give_up(self, numbers: set[int], reason: str) -> list[Work]:
        """Let go of what waits here of these chunks and is not being sent."""
        gone = self._waiting.take_out(numbers)
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

    def _show(self) -> None:
        self._metrics.gauge(OUTPUT_CONCURRENCY, output=self.name).set(self._pace.requests)
        self._metrics.gauge(OUTPUT_PARKED, output=self.name).set(len(self._parking))

    def _is(self, state: str, why: str) -> None:
        """Note the state; a change of it is one line of log."""
        if state == "up":
            self._metrics.gauge(OUTPUT_UP, output=self.name).set(1)
            if self.state in ("waiting", "parked"):
                self._log.info("output %s: delivers again", self.name)
        elif (state, why) != (self.state, self.why):
            self._log.warning("output %s: %s; nothing is lost, it is tried again", self.name, why)
        self.state, self.why = state, why
