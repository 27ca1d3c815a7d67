"""Where the time goes, as a picture: `python -m perf.profile [--only S3]` writes `perf/results/s3.svg`.

A flame graph (`flame.py`) of the daemon while it works off the scenario, by py-spy (of the extra `perf`), which is
attached when the daemon is ready and ends when everything is delivered, so that the start is not in the picture.
Threads are apart. Widths are shares and no costs: py-spy stops the process for each sample and so slows it down; costs
are in `perf.steps`.

Attaching to another process may be forbidden (`kernel.yama.ptrace_scope`, a container without `SYS_PTRACE`): then one
line says so, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from perf.arguments import count, named
from perf.flame import Box, drawn
from perf.measure import measure
from perf.processes import MeasureError
from perf.program import McpIngest, Place
from perf.scenario import ROOT, Scenario

_RATE = 250  # samples a second
_END_SECONDS = 30
COLOURS = {
    "mcp_ingest/inputs/": "#8fb8de",
    "mcp_ingest/codecs/": "#b5d3ec",
    "mcp_ingest/engine/": "#c9b8e0",
    "mcp_ingest/event.py": "#c9b8e0",
    "mcp_ingest/stages/": "#f2b26b",
    "mcp_ingest/masking": "#f2b26b",
    "mcp_ingest/expression.py": "#f2b26b",
    "mcp_ingest/metrics.py": "#f2b26b",
    "mcp_ingest/spool/": "#8cc9a1",
    "mcp_ingest/outputs/": "#e59a9a",
    "aiohttp/": "#f0c4c4",
    "elastic_transport/": "#f0c4c4",
}
_Stack = list[tuple[str, str]]


class Spied(McpIngest):
    """The daemon with py-spy attached from the moment when it is ready until all is delivered."""

    def __init__(self, stacks: Path) -> None:
        self._stacks = stacks
        self._spy: subprocess.Popen[str] | None = None

    def ready(self, place: Place) -> bool:
        """As of any daemon; then py-spy begins."""
        if not super().ready(place):
            return False
        if self._spy is None:
            pid = (place.directory / "spool" / "lock").read_text(encoding="ascii").strip()
            command = [spy() or "py-spy", "record", "--pid", pid, "--rate", str(_RATE), "--function", "--threads"]
            self._spy = subprocess.Popen(
                [*command, "--format", "raw", "--output", str(self._stacks)],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
        return True

    def settled(self, place: Place, sent: int, documents: int) -> bool | None:
        """As of any daemon; then py-spy writes what it saw."""
        settled = super().settled(place, sent, documents)
        if settled and self._spy is not None:
            self._spy.send_signal(signal.SIGINT)
            said, _ = self._spy.communicate(timeout=_END_SECONDS)
            if not self._stacks.exists():
                raise MeasureError(f"py-spy saw nothing: {' '.join(said.split())}")
        return settled


def spy() -> str | None:
    """The path of py-spy: beside this interpreter, else on the PATH."""
    return shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")


# --- from stacks to a picture ------------------------------------------------------------------------------

_FRAME = re.compile(r"(?P<name>.*) \((?P<file>.*?)(?::\d+)?\)")
_THREAD = re.compile(r"thread \((?:0x)?[0-9A-Fa-f]+\)(?:: (?P<name>.*))?")
#: Folders of the interpreter or of its packages, and of this repository: no path of the machine stays.
_FOLDER = re.compile(rf"(?:.*/(?:site-packages|dist-packages|python3\.\d+|lib-dynload)/|{re.escape(str(ROOT))}/)")
#: Files at the top of every stack, which say nothing: how a program or a thread is started.
_STARTING = re.compile(r"<frozen runpy>|click/|mcp_ingest/(?:__main__|cli/.*)\.py|asyncio/|threading\.py|concurrent/")
#: py-spy takes a wait with a timeout for work.
_WAITING = {("Worker._take", "mcp_ingest/spool/worker.py"), ("_take", "mcp_ingest/spool/worker.py")}
_THREADS = {"MainThread": "the event loop", "spool": "the spool's thread"}


def tree(stacks: str) -> Box:
    """The boxes of what py-spy wrote: a line for each stack, semicolons between its functions, and its samples."""
    root = Box("all")
    for line in stacks.splitlines():
        written, _, samples = line.rpartition(" ")
        thread, *frames = written.split(";")
        found = _THREAD.fullmatch(thread)
        name = found["name"] if found and found["name"] else "a thread of the pool"
        stack = _without_start([_frame(each) for each in frames])
        if not stack and name == "MainThread":
            stack = [("uvloop: sockets, timers", "uvloop")]
        if not stack or stack[-1] not in _WAITING:
            root.add([(_THREADS.get(name, "a thread of the pool"), ""), *stack], int(samples))
    return root


def _frame(written: str) -> tuple[str, str]:
    found = _FRAME.fullmatch(written)
    if found is None:
        return written, ""
    return found["name"].replace("<locals>.", ""), _FOLDER.sub("", found["file"])


def _without_start(stack: _Stack) -> _Stack:
    kept = next((place for place, (_, file) in enumerate(stack) if not _STARTING.match(file)), len(stack))
    return stack[kept:]


def record(scenario: Scenario, folder: Path) -> str:
    """The picture of one run; MeasureError where there is none."""
    stacks = folder / "stacks"
    measure(scenario, Spied(stacks), folder)
    boxes = tree(stacks.read_text(encoding="utf-8"))
    return drawn(boxes, f"{scenario.name}: {scenario.title} ({boxes.samples:,} samples)", COLOURS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Record and write."""
    parser = argparse.ArgumentParser("python -m perf.profile")
    parser.add_argument("--only", type=named, default="S3", help="names of scenarios, with commas between (S3)")
    parser.add_argument("--events", type=count, help="so many events in place of the scenario's")
    parser.add_argument("--results", default=str(ROOT / "perf" / "results"), help="where the pictures go")
    options = parser.parse_args(arguments)
    if spy() is None:
        print("there is no py-spy: pip install -e '.[perf]'", file=sys.stderr)
        return 1
    for scenario in options.only:
        made = scenario.shortened(options.events) if options.events else scenario
        with tempfile.TemporaryDirectory(prefix="mcp-ingest-profile-") as folder:
            try:
                picture = record(made, Path(folder))
            except MeasureError as error:
                print(str(error).splitlines()[0], file=sys.stderr)
                return 1
        path = Path(options.results) / f"{scenario.name.lower().replace(' ', '_')}.svg"
        path.write_text(picture, encoding="utf-8")
        print(f"written: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
