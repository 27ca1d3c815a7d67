"""One output dies: the latency of the other stays what it was, and once it is back it gets everything.

    python -m tests.chaos.dead_output [--events 2000000] [--rate 5000]

Two outputs `elasticsearch` behind the stages of `perf`'s S3, each with a `perf.sink` of its own. A part of the events
passes while both live; then one is killed, and somebody listens in its place who never answers a word. Printed is the
latency of the other, from the sender's stamp to its arrival, before and after. Ends with 1 if its p99 is more than half
as high again, or if events are missing in the end.
"""

from __future__ import annotations

import argparse
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from perf.processes import MeasureError, Running, Sink, answer_of, fetch, free_port, python, running_sink, wait_until
from perf.program import McpIngest, Place, configuration
from perf.scenario import ROOT, Scenario, Steady

_SCENARIO = Scenario(title="a dead output", load=Steady(), stages="perf/pipelines/s3.yaml")
_BEFORE_PART = 5  # of the events, while both live
_MOST = 1.5
_SECONDS = 3600.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, say whether it holds."""
    parser = argparse.ArgumentParser(
        "python -m tests.chaos.dead_output", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--rate", type=int, default=5_000)
    given = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="mcp-ingest-dead-output-") as folder:
            before, after = _measure(Place(Path(folder)), given.events, given.rate)
    except MeasureError as error:
        print(f"WRONG: {error}")
        return 1
    print(f"p99 {after['p99'] / before['p99']:.2f} times what it was (at most {_MOST:g})")
    return 0 if after["p99"] <= _MOST * before["p99"] else 1


def _measure(place: Place, events: int, rate: int) -> tuple[dict[str, float], dict[str, float]]:
    """The latencies of the output that lives, before and after the other one's death."""
    other = free_port()
    program = McpIngest()
    command = program.command(_SCENARIO, place)
    _with_two_outputs(place, other)
    with (
        running_sink(ROOT, place.sink_port, latency=True) as lives,
        Running(command.line, place.directory, command.environment),
    ):
        wait_until(lambda: program.ready(place), "the daemon is ready")
        with running_sink(ROOT, other, latency=False) as dies:
            sent = _send(place, events // _BEFORE_PART, rate)
            before = _latency(lives, "both live")
            _held(place, "other", at_most=0)
            arrived = dies.counts()["documents"]
        with _silence(other):
            sent += _send(place, events, rate)
            after = _latency(lives, "one is dead")
            held = _held(place, "lives", at_most=0)["other"]
        began = time.monotonic()
        with running_sink(ROOT, other, latency=False) as dies:
            _held(place, "other", at_most=0)
            print(f"back: its {held:,} events arrived within {time.monotonic() - began:.0f} s", flush=True)
            arrived += dies.counts()["documents"]
        _closed(place, arrived)
    return before, after


def _with_two_outputs(place: Place, other: int) -> None:
    made: dict[str, Any] = configuration(_SCENARIO, place)
    ports = {"lives": place.sink_port, "other": other}
    made["outputs"] = {
        name: {"type": "elasticsearch", "hosts": [f"http://127.0.0.1:{port}"]} for name, port in ports.items()
    }
    (place.directory / "mcp-ingest.yaml").write_text(yaml.safe_dump(made, sort_keys=False))


def _silence(port: int) -> socket.socket:
    """Somebody who takes connections and never says a word."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(64)
    return listener


def _send(place: Place, events: int, rate: int) -> int:
    arguments = ["--port", place.forward_port, "--events", events, "--rate", rate, "--chunk", 10, "--connections", 4]
    answer = answer_of(python("perf.loadgen", *arguments, "--mode", "forward", "--stamp"), ROOT, _SECONDS)
    if answer["acknowledged"] != events:
        raise MeasureError(f"not everything is acknowledged: {answer}")
    return events


def _latency(sink: Sink, when: str) -> dict[str, float]:
    """What arrived since this was last asked for, in milliseconds."""
    time.sleep(2)  # the last ones are still on their way
    counts = sink.counts()
    fetch(f"{sink.url}/_perf", "DELETE")
    found = {name: value * 1e3 for name, value in counts["latency"].items()}
    shown = ", ".join(f"{name} {value:,.1f} ms" for name, value in found.items())
    print(f"{when}: {counts['documents']:,} events, {shown}", flush=True)
    return found


def _held(place: Place, output: str, *, at_most: int) -> dict[str, int]:
    """What each output owes, once this one owes no more than so many."""

    def settled() -> dict[str, int] | None:
        outputs = fetch(f"http://127.0.0.1:{place.http_port}/status")["outputs"]
        held: dict[str, int] = {name: each["held"] for name, each in outputs.items()}
        return held if held[output] <= at_most else None

    found: dict[str, int] = wait_until(settled, f"{output} owes nothing", _SECONDS, 0.2)
    return found


def _closed(place: Place, arrived: int) -> None:
    """MeasureError if a sum is open, or the output that died has not got what the other one has."""
    status = fetch(f"http://127.0.0.1:{place.http_port}/status")
    if wrong := [row for row in status["sums"] if not row["closed"]]:
        raise MeasureError(f"sums are open: {wrong}")
    delivered = {name: each["delivered"] for name, each in status["outputs"].items()}
    if delivered["lives"] != delivered["other"] or arrived < delivered["other"]:
        raise MeasureError(f"{arrived} arrived where one died, and the ledger has {delivered}")
    print(f"delivered: {delivered['lives']:,} by each, all sums close")


if __name__ == "__main__":
    sys.exit(main())
