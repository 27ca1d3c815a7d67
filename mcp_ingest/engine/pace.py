"""What an output's answers teach about how much to send at once. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from mcp_ingest.component import Output
from mcp_ingest.engine.concurrency import Concurrency
from mcp_ingest.engine.request_size import RequestSize
from mcp_ingest.verdict import AllDelivered, Each, Retry, TooLarge, Unknown, Verdicts

#: Failures in a row from which on a request becomes smaller: what it carries may be the reason.
SMALLER_FROM = 3


class Pace:
    """How many requests one output may have in flight, and how many bytes each."""

    def __init__(self, output: Output) -> None:
        self._concurrency = Concurrency(output.concurrency, output.latency_tells_load)
        self._size = RequestSize(output.max_request_bytes)

    @property
    def requests(self) -> int:
        """Requests in flight at the most."""
        return self._concurrency.limit

    @property
    def bytes(self) -> int:
        """Bytes in one request at the most; a single event is sent whatever it has."""
        return self._size.bytes

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
