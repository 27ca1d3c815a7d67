"""`python -m tests.chaos [--seed N] [--seconds S] [--faults a,b] [--output elasticsearch|store] [--kills N]`.

Sends numbered events while faults strike, prints the figures, and ends with 1 if an event is lost or doubled, a sum
does not close, or something needed a hand. The same seed brings the same faults in the same order.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.chaos.faults import faults
from tests.chaos.run import run
from tests.chaos.scene import Options
from tests.integration.servers import Elasticsearch

_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """One run; its exit code."""
    options, keep = _options(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_INTERRUPTED))
    directory = Path(tempfile.mkdtemp(prefix="mcp-ingest-chaos-"))
    directory.chmod(0o755)
    print(f"seed {options.seed}; the run's folder is {directory}", flush=True)
    try:
        with _server(options) as server:
            report = asyncio.run(run(options, directory, server))
    except (KeyboardInterrupt, asyncio.CancelledError):
        shutil.rmtree(directory, ignore_errors=True)
        print("interrupted: what was started is ended, and nothing is known")
        return _INTERRUPTED
    if not report.problems and not keep:
        shutil.rmtree(directory, ignore_errors=True)
    print("\n".join(report.lines()))
    return 1 if report.problems else 0


@contextlib.contextmanager
def _server(options: Options) -> Iterator[Elasticsearch | None]:
    """A real Elasticsearch of the run's own, where there is use for one."""
    if options.output != "elasticsearch":
        yield None
        return
    server = Elasticsearch()
    try:
        yield server.start()
    finally:
        server.close()


def _options(arguments: Sequence[str] | None) -> tuple[Options, bool]:
    known = faults()
    table = "\n".join(f"  {fault.name:<24} {fault.what}" for fault in known.values())
    parser = argparse.ArgumentParser(
        "python -m tests.chaos",
        description=(__doc__ or "").partition("\n")[2],
        epilog=f"faults:\n{table}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, default=Options.seed)
    parser.add_argument("--seconds", type=float, default=Options.seconds, help="how long faults go on to begin")
    parser.add_argument("--faults", default="", help="names, with commas between; all that can be had by default")
    parser.add_argument("--output", choices=("elasticsearch", "store"), default=Options.output)
    parser.add_argument("--rounds", type=int, default=0, help="go on until so many faults struck")
    parser.add_argument("--kills", type=int, default=0, help="go on until so many `kill` struck, however long it takes")
    parser.add_argument("--lasting", type=float, help="seconds that each fault lasts, in place of its dice")
    parser.add_argument("--rate", type=float, default=Options.rate, help="events a second by forward")
    parser.add_argument("--lines", type=float, default=Options.lines, help="lines a second into each of two files")
    parser.add_argument("--spool-bytes", default=Options.spool_bytes, help="a small spool is full in each outage")
    parser.add_argument("--workers", type=int, default=1, help="processes; more than one with Elasticsearch only")
    parser.add_argument("--keep", action="store_true", help="keep the run's folder; it stays anyway if a run fails")
    given = vars(parser.parse_args(arguments))
    keep = given.pop("keep")
    names = tuple(name for name in given.pop("faults").split(",") if name)
    if strangers := [name for name in names if name not in known]:
        parser.error(f"there is no fault {', '.join(strangers)}; there are {', '.join(known)}")
    if given["kills"] and names and "kill" not in names:
        parser.error("--kills needs the fault kill")
    if given["workers"] > 1 and given["output"] == "store":
        parser.error(
            "--workers: the store keeps what is sent again to another worker (docs/workers.md); use Elasticsearch"
        )
    return Options(**given, faults=names), keep


if __name__ == "__main__":
    sys.exit(main())
