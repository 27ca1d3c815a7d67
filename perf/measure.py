"""One run: a program between a load and a sink, each a process of its own, and what it cost.

The CPU is the program's alone, and of all its processes; it is counted from the moment when the program is ready until
everything is delivered and its books close. A run in which a document is missing, doubled or refused is no
measurement and raises MeasureError.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from perf.figures import Figures
from perf.lines import file_of_lines, grow, make_files
from perf.processes import (
    MeasureError,
    Running,
    Sink,
    answer_of,
    listens,
    python,
    running_sink,
    wait_until,
)
from perf.program import Command, Place, Program
from perf.scenario import ROOT, Forward, Lines, ManyFiles, Nothing, Scenario, Steady

_DELIVERY_SECONDS = 900.0
_POLL_SECONDS = 0.02
_SETTLE_SECONDS = 0.5  # after it is ready: what a start leaves for later


class Run:
    """One run of one scenario by one program, under way."""

    def __init__(self, scenario: Scenario, program: Program, place: Place) -> None:
        self.scenario, self.program, self.place = scenario, program, place
        self.figures: Figures = {}
        self.sink: Sink | None = None
        self.running: Running

    def log(self) -> str:
        """The end of the program's log; empty before it was started."""
        return self.running.tail() if hasattr(self, "running") else ""

    @contextlib.contextmanager
    def started(self) -> Iterator[None]:
        """The program, listening and ready, until the block ends."""
        command = self.program.command(self.scenario, self.place)
        with Running(command.line, self.place.directory, command.environment) as self.running:
            self._wait_for_ready(command)
            yield
            self.running.check()
            peak = self.running.peak
            self.figures |= {"peak_rss_mb": peak.rss, "peak_anonymous_mb": peak.anonymous}

    def _wait_for_ready(self, command: Command) -> None:
        def ready() -> bool:
            self.running.check()
            return command.port is None or listens(command.port)

        wait_until(ready, f"{self.program.name} listens", pause=0.002)
        if command.port is not None:
            self.figures["listening_seconds"] = time.monotonic() - self.running.began
        wait_until(lambda: self.program.ready(self.place), f"{self.program.name} is ready", 120)
        time.sleep(_SETTLE_SECONDS)

    @contextlib.contextmanager
    def with_sink(self) -> Iterator[None]:
        """The sink, if the scenario has one, until the block ends."""
        if self.scenario.output != "elasticsearch":
            yield
            return
        latency = isinstance(self.scenario.load, Steady | ManyFiles)
        with running_sink(ROOT, self.place.sink_port, latency=latency) as self.sink:
            yield
            self._sink_figures(self.sink.counts())

    def _sink_figures(self, counts: dict[str, Any]) -> None:
        self.figures["documents"] = counts["documents"]
        if counts["documents"]:
            self.figures["sink_us"] = counts["cpu_seconds"] / counts["documents"] * 1e6
        if found := counts["latency"]:
            milliseconds = {name: found[name] * 1e3 for name in ("p50", "p99", "max")}
            self.figures |= {
                "p50_ms": milliseconds["p50"],
                "p99_ms": milliseconds["p99"],
                "longest_ms": milliseconds["max"],
            }

    def wait_delivered(self, sent: int) -> float:
        """Wait until all that was sent is accounted for; the monotonic time when the last of it arrived."""
        documents, changed, end = 0, time.monotonic(), time.monotonic() + _DELIVERY_SECONDS
        while (now := time.monotonic()) < end:
            self.running.check()
            before, documents = documents, self._documents()
            if documents != before:
                changed = now
            elif now - changed >= self.program.quiet_seconds or self.sink is None:
                settled = self.program.settled(self.place, sent, documents)
                if settled:
                    return changed if self.sink else now
                if settled is None and (documents >= sent * _LEAST_SHARE or self.sink is None):
                    time.sleep(0 if self.sink else self.program.quiet_seconds)
                    return changed
                time.sleep(_POLL_SECONDS * 5)  # asking costs the program something
            time.sleep(_POLL_SECONDS)
        raise MeasureError(
            f"{documents} of {sent} are delivered after {_DELIVERY_SECONDS:.0f} s: {self.running.tail()}"
        )

    def _documents(self) -> int:
        return int(self.sink.counts()["documents"]) if self.sink else 0

    def loadgen(self, load: Forward | Steady) -> tuple[int, float]:
        """Run the load generator to its end; events sent, and the monotonic time when it began to send."""
        arguments: list[object] = ["--port", self.place.forward_port, "--events", load.events, "--chunk", load.chunk]
        arguments += ["--connections", load.connections, "--tag", "perf"]
        if isinstance(load, Steady):
            arguments += ["--rate", load.rate, "--stamp", "--mode", "message" if load.chunk == 1 else "forward"]
        else:
            arguments += ["--mode", load.mode, *(["--window", load.window] if load.window else [])]
        answer = answer_of(python("perf.loadgen", *arguments), ROOT)
        if answer["acknowledged"] != answer["events"]:
            raise MeasureError(f"not everything is acknowledged: {answer}")
        self.figures["loadgen_us"] = answer["cpu_seconds"] / answer["events"] * 1e6
        return int(answer["events"]), time.monotonic() - answer["seconds"]

    def cost(self, cpu_seconds: float, events: int) -> None:
        """Note what an event cost."""
        self.figures["cpu_us"] = cpu_seconds / events * 1e6


#: Of what is sent; the others are dropped by the chain, as a tenth of the records is DEBUG.
_LEAST_SHARE = 0.89


def _full_speed(run: Run, load: Forward | Lines, cache: Path) -> None:
    source = file_of_lines(cache, load.events) if isinstance(load, Lines) else None
    with run.with_sink(), run.started():
        before = run.running.cpu_seconds()
        sent, began = _put_in_place(run, source, load.events) if source else run.loadgen(load)  # type: ignore[arg-type]
        ended = run.wait_delivered(sent)
        run.cost(run.running.cpu_seconds() - before, sent)
        run.figures["rate"] = sent / (ended - began)


def _put_in_place(run: Run, source: Path, events: int) -> tuple[int, float]:
    began = time.monotonic()
    os.link(source, run.place.logs / "app.log")
    return events, began


def _backlog(run: Run, load: Forward, _: Path) -> None:
    with run.started():
        before = run.running.cpu_seconds()
        sent, began = run.loadgen(load)
        filled = run.running.cpu_seconds()
        run.figures["fill_rate"] = sent / (time.monotonic() - began)
        with run.with_sink():
            run.wait_delivered(sent)
            after = run.running.cpu_seconds()
            assert run.sink is not None
            counts = run.sink.counts()
        run.cost(after - before, sent)
        run.figures["drain_us"] = (after - filled) / sent * 1e6
        if counts["seconds"]:  # none between the first request and the last if there is one alone
            run.figures["drain_rate"] = counts["documents"] / counts["seconds"]


def _steady(run: Run, load: Steady, _: Path) -> None:
    with run.with_sink(), run.started():
        before = run.running.cpu_seconds()
        sent, began = run.loadgen(load)
        run.figures["cores"] = (run.running.cpu_seconds() - before) / (time.monotonic() - began)
        run.wait_delivered(sent)


def _many_files(run: Run, load: ManyFiles, _: Path) -> None:
    paths = make_files(run.place.logs, load.files)
    with run.with_sink(), run.started():
        time.sleep(load.seconds / 2)  # the first looks at all the files
        _idle_cost(run, load.seconds)
        before, began = run.running.cpu_seconds(), time.monotonic()
        step = max(1, load.files // load.active)
        sent = grow(paths[::step][: load.active], load.rate, load.seconds)
        run.figures["cores"] = (run.running.cpu_seconds() - before) / (time.monotonic() - began)
        run.wait_delivered(sent)


def _nothing(run: Run, load: Nothing, _: Path) -> None:
    with run.with_sink(), run.started():
        _idle_cost(run, load.seconds)


def _idle_cost(run: Run, seconds: float) -> None:
    before, began = run.running.cpu_seconds(), time.monotonic()
    time.sleep(seconds)
    memory = run.running.memory()
    run.figures |= {
        "idle_cores": (run.running.cpu_seconds() - before) / (time.monotonic() - began),
        "idle_rss_mb": memory.rss,
        "idle_anonymous_mb": memory.anonymous,
    }


_WAYS: dict[type, Callable[[Run, Any, Path], None]] = {
    Forward: _full_speed,
    Lines: _full_speed,
    Steady: _steady,
    ManyFiles: _many_files,
    Nothing: _nothing,
}


def measure(scenario: Scenario, program: Program, folder: Path) -> Figures:
    """Run a scenario once; what was measured. `folder` is on the disk that the spool shall be on."""
    way: Callable[[Run, Any, Path], None] = _backlog if scenario.backlog else _WAYS[type(scenario.load)]
    with tempfile.TemporaryDirectory(dir=folder, prefix="run-") as directory:
        run = Run(scenario, program, Place(Path(directory)))
        try:
            way(run, scenario.load, folder)
        except MeasureError as error:
            raise MeasureError(f"{scenario.name} by {program.name}: {error}\n{run.log()}") from None
    return run.figures


def floor() -> float:
    """Microseconds an event of the floor, now, in a process of its own."""
    return float(answer_of(python("perf.floor"), ROOT))


def in_floors(figures: Figures, floor_us: float, meanwhile_us: float = 0.0) -> Figures:
    """The figures with their costs in floors as well; `meanwhile_us` is the floor of the same seconds, if any."""
    more = {"floor_us": floor_us}
    for cost, name in (("cpu_us", "floors"), ("drain_us", "drain_floors")):
        if cost in figures:
            more[name] = figures[cost] / floor_us
    if meanwhile_us and "cpu_us" in figures:
        more["floors_meanwhile"] = figures["cpu_us"] / meanwhile_us
    return {**figures, **more}
