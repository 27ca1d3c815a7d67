"""What an output's answers teach about how much to send at once. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from mcp_ingest.component import Output
from mcp_ingest.engine.concurrency import Concurrency
from mcp_ingest.engine.request_size import RequestSize
from mcp_ingest.verdict import AllDelivered, Each, Retry, TooLarge, Unknown, Verdicts

#: Failures in a row from which on a request becomes smaller: what it carries may be the reason.
SMALLER_FROM = 3
#: A request is small if it has less than this part of the most: at 300 small commits a second each would be a request
#: and a settlement of its own if it did not wait, 0.5 ms of CPU.
_SMALL_PART = 4
#: Seconds after the last request that a small one waits for the answer to one under way.
PATIENCE = 0.01
#: Seconds that it waits for each event of the last, and at the most: where much comes two chunks go in one request,
#: which saves 7 % of all CPU (`make perf ONLY=S2,S3`), and where little comes nothing waits.
_SPACING, _MOST_SPACING = 20e-6, 0.03


class Pace:
    """How many requests one output may have in flight, and how many bytes each."""

    def __init__(self, output: Output) -> None:
        self._concurrency = Concurrency(output.concurrency, output.latency_tells_load)
        self._size = RequestSize(output.max_request_bytes)
        self._sent, self._spacing = 0.0, 0.0

    @property
    def requests(self) -> int:
        """Requests in flight at the most."""
        return self._concurrency.limit

    @property
    def bytes(self) -> int:
        """Bytes in one request at the most; a single event is sent whatever it has."""
        return self._size.bytes

    def sent(self, now: float, events: int) -> None:
        """A request of so many events goes out, at that monotonic time."""
        self._sent, self._spacing = now, min(events * _SPACING, _MOST_SPACING)

    def is_small(self, size: int) -> bool:
        """Whether a request of so many bytes is better sent with what comes next."""
        return size * _SMALL_PART < self.bytes

    def small_waits_until(self, in_flight: int) -> float:
        """The monotonic time from which on a small request is sent, with so many under way."""
        return self._sent + max(self._spacing, PATIENCE if in_flight else 0.0)

    def begun(self, in_flight: int) -> int:
        """A request begins, the `in_flight`-th now; its era, for `learn`."""
        return self._concurrency.begun(in_flight)

    def learn(self, verdicts: Verdicts, era: int, seconds: float, size: int, failures: int) -> bool:
        """A request of `size` bytes was answered, after `failures` that failed; whether `requests` changed."""
        before = self._concurrency.limit
        busy: Sequence[Unknown | Retry] = []
        match verdicts:
            case Unknown():
                busy = [verdicts]
                if failures + 1 >= SMALLER_FROM:
                    self._size.failed()
            case Each(each):
                busy = [verdict for verdict in each if isinstance(verdict, Retry)]
        overloaded = any(verdict.overloaded for verdict in busy)
        if overloaded:
            self._concurrency.overloaded(era)
        elif isinstance(verdicts, AllDelivered | Each):
            self._concurrency.answered(era, seconds, size)
        if isinstance(verdicts, TooLarge) or any(verdict.smaller for verdict in busy):
            self._size.refused(size)
        elif isinstance(verdicts, AllDelivered | Each):
            self._size.answered()
        return self._concurrency.limit != before
