"""A backlog: Elasticsearch is away while millions of events come, the daemon is killed, and both come back.

    python -m tests.chaos.backlog [--events 10000000]

What `perf` measures in S6, five times as long and with a `kill -9` in the middle: the most anonymous memory of both
lives, the seconds from exec to the first delivery, and how fast it drains beside a daemon that was never behind (the
same load, with Elasticsearch there). Elasticsearch is `perf.sink`, which counts and keeps nothing. Ends with 1 if a
bound is missed, or if not as many documents arrive as were sent.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from perf.processes import MeasureError, Running, Sink, answer_of, python, running_sink, wait_until
from perf.program import McpIngest, Place
from perf.scenario import ROOT, Forward, Scenario

ANONYMOUS_MB, FIRST_SECONDS, SHARE = 200.0, 3.0, 0.8
_NORMAL_PART = 10  # of the events: enough to see the rate of a daemon that is not behind
_SECONDS = 3600.0
_SCENARIO = Scenario(title="backlog", load=Forward())


class Station:
    """A daemon's folder and ports, and its lives one after another."""

    def __init__(self, folder: Path, name: str) -> None:
        (folder / name).mkdir()
        self.place = Place(folder / name)
        self._program = McpIngest()

    def started(self) -> Running:
        """A new life; it is not ready yet."""
        command = self._program.command(_SCENARIO, self.place)
        return Running(command.line, self.place.directory, command.environment)

    def send(self, events: int) -> float:
        """Send so many as fast as they are acknowledged; events a second."""
        wait_until(lambda: self._program.ready(self.place), "the daemon is ready")
        port = self.place.forward_port
        answer = answer_of(
            python("perf.loadgen", "--port", port, "--events", events, "--connections", 2), ROOT, _SECONDS
        )
        if answer["acknowledged"] != events:
            raise MeasureError(f"not everything is acknowledged: {answer}")
        return float(events / answer["seconds"])

    def delivered(self, sink: Sink, events: int) -> float:
        """Wait until all is delivered and the books close; events a second, from the first request to the last."""
        wait_until(lambda: sink.counts()["documents"] >= events, "all is delivered", _SECONDS, 0.2)
        counts = sink.counts()
        if counts["documents"] != events:
            raise MeasureError(f"{events} were sent, {counts['documents']} documents arrived")
        wait_until(lambda: self._program.settled(self.place, events, events), "the books close")
        return float(events / counts["seconds"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, say whether the bounds hold."""
    parser = argparse.ArgumentParser("python -m tests.chaos.backlog", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=int, default=10_000_000)
    events: int = parser.parse_args(arguments).events
    try:
        with tempfile.TemporaryDirectory(prefix="mcp-ingest-backlog-") as folder:
            normal = _normal(Station(Path(folder), "normal"), events // _NORMAL_PART)
            print(f"normal: {normal:,.0f} events/s arrive", flush=True)
            held = _backlog(Station(Path(folder), "backlog"), events, normal)
    except MeasureError as error:
        print(f"WRONG: {error}")
        return 1
    return 0 if held else 1


def _normal(station: Station, events: int) -> float:
    with running_sink(ROOT, station.place.sink_port, latency=False) as sink, station.started():
        station.send(events)
        return station.delivered(sink, events)


def _backlog(station: Station, events: int, normal: float) -> bool:
    with station.started() as first:
        rate = station.send(events)
        print(f"filled: {events:,} events at {rate:,.0f} events/s", flush=True)
        os.kill(first.pid, signal.SIGKILL)
    with running_sink(ROOT, station.place.sink_port, latency=False) as sink:
        began = time.monotonic()
        with station.started() as second:
            wait_until(lambda: sink.counts()["documents"], "the first delivery", _SECONDS, 0.01)
            waited = time.monotonic() - began
            share = station.delivered(sink, events) / normal
    anonymous = max(first.peak.anonymous, second.peak.anonymous)
    print(f"restarted: the first arrive {waited:.2f} s after exec (at most {FIRST_SECONDS:g})")
    print(f"drained: {share * normal:,.0f} events/s, {share:.2f} of normal (at least {SHARE:g})")
    print(f"anonymous memory: {anonymous:.0f} MB (at most {ANONYMOUS_MB:g})")
    return anonymous <= ANONYMOUS_MB and waited <= FIRST_SECONDS and share >= SHARE


if __name__ == "__main__":
    sys.exit(main())
