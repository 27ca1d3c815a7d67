"""Reloads under load: nothing is lost, doubled, turned round or leaked.

    python -m tests.chaos.reloads [--reloads 1000]

A daemon in this process goes back and forth between two configurations that differ in everything a reload may change,
while another process sends numbered events over three connections, two of them to an input that goes on, one to an
input that is ended and begun anew each time, and lines are written to a file that is followed. One output stays, one is
changed each time, one comes and goes. At the end every event must be with both outputs exactly once, in the order in
which its lane sent it; all sums must close; and descriptors, threads, tasks, metrics and memory must be what they were.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcp_ingest.engine.tuning import tune_allocator, tune_collector
from mcp_ingest.web.server import serving
from tests.engine.live import Live, free_port, living
from tests.engine.parts import until

LANES = 4  # three that are sent, one that is written
#: A part of the reloads after which everything that is made once is made.
_WARM = 10
_SETTLE_SECONDS = 30.0
_MOST_GROWN = 8 * 2**20


@dataclass(frozen=True)
class Held:
    """What the process holds at one moment, in the first of the two configurations, with nothing under way."""

    descriptors: int
    threads: int
    tasks: int
    series: int
    objects: int
    anonymous: int  # bytes: RssAnon

    @classmethod
    def now(cls, live: Live) -> Held:
        """Count."""
        gc.collect()
        series = sum(len(family.samples) for family in live.daemon.metrics.registry.collect())
        status = Path("/proc/self/status").read_text() if sys.platform == "linux" else ""
        anonymous = re.search(r"RssAnon:\s+(\d+) kB", status)
        return cls(
            len(os.listdir("/dev/fd")),
            threading.active_count(),
            len(asyncio.all_tasks()),
            series,
            len(gc.get_objects()) + gc.get_freeze_count(),
            int(anonymous[1]) * 1024 if anonymous else 0,
        )


@dataclass
class Report:
    """What was found; `problems` are sentences."""

    reloads: int = 0
    events: int = 0
    lost: int = 0
    doubled: int = 0
    turned: int = 0  # events that came behind a later one of their lane
    open_sums: int = 0
    seconds: list[float] = field(default_factory=list)
    acks: list[list[float]] = field(default_factory=list)  # seconds, by lane
    before: Held | None = None
    halfway: Held | None = None
    after: Held | None = None

    def problems(self) -> list[str]:
        """What must not be."""
        counts = {"lost": self.lost, "doubled": self.doubled, "out of order": self.turned, "open sums": self.open_sums}
        found = [f"{count} {what}" for what, count in counts.items() if count]
        assert self.before is not None
        assert self.after is not None
        for name in ("descriptors", "threads", "tasks", "series"):
            before, after = getattr(self.before, name), getattr(self.after, name)
            if after > before:
                found.append(f"{name} grew from {before} to {after}")
        if self.after.anonymous > self.before.anonymous + _MOST_GROWN:
            found.append(f"memory grew from {self.before.anonymous:,} to {self.after.anonymous:,} bytes")
        return found

    def lines(self) -> list[str]:
        """For a person."""
        shown = [
            f"{self.reloads:,} reloads, {self.events:,} events to each of two outputs: "
            f"lost {self.lost}, doubled {self.doubled}, out of order {self.turned}, open sums {self.open_sums}",
            f"a reload took {_spread(self.seconds)}",
            f"an ack of an input that goes on: {_spread([*self.acks[0], *self.acks[1]])}",
            f"an ack of an input that begins anew: {_spread(self.acks[2])}",
        ]
        for when, held in (("before", self.before), ("half way", self.halfway), ("after", self.after)):
            if held is not None:
                shown.append(
                    f"{when}: {held.descriptors} descriptors, {held.threads} threads, {held.tasks} tasks, "
                    f"{held.series} series, {held.objects:,} objects, {held.anonymous / 2**20:.1f} MiB anonymous memory"
                )
        return [*shown, *(f"WRONG: {problem}" for problem in self.problems())]


class Scene:
    """The two configurations, and what is sent through them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ports = free_port(), free_port()
        self.log = directory / "app.log"
        self.log.touch()
        self.written = 0

    def sections(self, second: bool) -> dict[str, Any]:
        """The one configuration or the other."""
        host = "0.0.0.0" if second else "127.0.0.1"
        more = {"idle": {"type": "forward", "host": "127.0.0.1", "port": 0}} if second else {}
        stages: list[Any] = ["normalize", "redact"]
        metric = {"name": "seen_total", "help": "Seen." if second else "Also seen.", "labels": {"service": "service"}}
        outputs = {"kept": self._file("kept"), "changed": self._file("two" if second else "one")}
        return {
            "inputs": {
                "forward": {"host": "127.0.0.1", "port": self.ports[0], **({"tag_prefix": "b"} if second else {})},
                "edge": {"type": "forward", "host": host, "port": self.ports[1]},
                "files": {
                    "type": "tail", "paths": [str(self.log)], "start_at": "head", "tag": "tail.b" if second else "tail",
                },
                **more,
            },
            "pipelines": {
                "lane1": {"match": "{lane1,b.lane1}", "stages": stages[second:], "outputs": ["kept", "changed"]},
                "rest": {
                    "match": "**",
                    "stages": [*stages, {"extract_metrics": {"metrics": [metric]}}],
                    "outputs": ["kept", "changed", *(["comes"] if second else [])],
                },
            },
            "outputs": {**outputs, **({"comes": {"type": "blackhole"}} if second else {})},
            "spool": {"directory": str(self.directory / "spool"), "ballast_bytes": "64KiB"},
            "log": {"level": "error" if second else "warning"},
        }  # fmt: skip

    def _file(self, name: str) -> dict[str, str]:
        return {"type": "file", "path": str(self.directory / "out" / f"{name}.ndjson")}

    def write(self, count: int) -> None:
        """Further lines of the last lane."""
        with self.log.open("a") as log:
            log.writelines(f"{LANES - 1} {number}\n" for number in range(self.written, self.written + count))
        self.written += count

    def found(self, *names: str) -> list[tuple[int, int]]:
        """Lane and number of each event in these files, in their order."""
        found = []
        for name in names:
            path = self.directory / "out" / f"{name}.ndjson"
            for line in path.read_text().splitlines() if path.exists() else ():
                lane, number = json.loads(line)["message"].split()
                found.append((int(lane), int(number)))
        return found


async def run(reloads: int, directory: Path) -> Report:
    """So many reloads; what became of the events, and of the process."""
    scene, report = Scene(directory), Report()
    async with living(directory, **scene.sections(False)) as live, _served(live):
        tune_collector()
        sender = await asyncio.to_thread(_sender, [scene.ports[0], scene.ports[0], scene.ports[1]])
        try:
            await _warm_up(live, scene, report, max(2, reloads // _WARM))
            report.before = Held.now(live)
            await _reload(live, scene, report, reloads // 2)
            report.halfway = Held.now(live)
            await _reload(live, scene, report, reloads - reloads // 2)
        finally:
            said, _ = await asyncio.to_thread(sender.communicate)
        lanes = json.loads(said)
        sent = {number: lane["events"] for number, lane in enumerate(lanes)}
        report.acks = [lane["seconds"] for lane in lanes]
        sent[LANES - 1] = scene.written
        report.events = sum(sent.values())
        await until(lambda: _delivered(live) == report.events, _SETTLE_SECONDS)
        await asyncio.sleep(1.5)  # connections that linger
        report.after = Held.now(live)
        report.open_sums = sum(not row["closed"] for row in live.daemon.status()["sums"])
    _compare(report, sent, scene.found("kept"), in_order=True)
    _compare(report, sent, scene.found("one", "two"), in_order=False)
    return report


@contextlib.asynccontextmanager
async def _served(live: Live) -> AsyncIterator[None]:
    live.write(http={"port": free_port()})
    async with serving(live.daemon, live.daemon.config.http):
        await live.reload()
        yield


def _sender(ports: Iterable[int]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.chaos.numbered", *map(str, ports)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _delivered(live: Live) -> int:
    """What the slower of the two outputs has delivered."""
    outputs = live.daemon.status()["outputs"]
    return int(min(outputs[name]["delivered"] for name in ("kept", "changed")))


async def _warm_up(live: Live, scene: Scene, report: Report, reloads: int) -> None:
    await _reload(live, scene, report, reloads + reloads % 2)
    await asyncio.sleep(1.5)


async def _reload(live: Live, scene: Scene, report: Report, reloads: int) -> None:
    """Back and forth, at the end in the first configuration again."""
    for turn in range(reloads + reloads % 2):
        scene.write(20)
        began = time.monotonic()
        await live.reload(**scene.sections(turn % 2 == 0))
        report.seconds.append(time.monotonic() - began)
        report.reloads += 1


def _compare(report: Report, sent: dict[int, int], found: Sequence[tuple[int, int]], *, in_order: bool) -> None:
    counts = Counter(found)
    wanted = {(lane, number) for lane, count in sent.items() for number in range(count)}
    report.lost += len(wanted - counts.keys())
    report.doubled += sum(count - 1 for count in counts.values())
    last = dict.fromkeys(sent, -1)
    for lane, number in found if in_order else ():
        report.turned += number < last[lane]
        last[lane] = max(last[lane], number)


def _spread(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    p50, p99 = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
    return f"p50 {p50 * 1e3:.0f} ms, p99 {p99 * 1e3:.0f} ms, at the most {ordered[-1] * 1e3:.0f} ms"


def main(arguments: Sequence[str] | None = None) -> int:
    """One run; its exit code."""
    parser = argparse.ArgumentParser("python -m tests.chaos.reloads", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--reloads", type=int, default=1000)
    given = parser.parse_args(arguments)
    tune_allocator()
    with tempfile.TemporaryDirectory(prefix="mcp-ingest-reloads-") as folder:
        report = asyncio.run(run(given.reloads, Path(folder)))
    print("\n".join(report.lines()))
    return 1 if report.problems() else 0


if __name__ == "__main__":
    sys.exit(main())
