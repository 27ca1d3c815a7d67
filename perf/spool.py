"""What the spool costs: `python perf/spool.py [DIRECTORY]`.

CPU is that of the whole process, in microseconds an event; the lines are JSON of some 500 bytes with random ids
in them. The numbers in the docstrings of `mcp_ingest/spool` come from here; machines differ by a factor of two.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import shutil
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import orjson

from mcp_ingest.component import ByteSize
from mcp_ingest.context import SystemClock
from mcp_ingest.event import Term, hashed_prefix, id_suffixes
from mcp_ingest.metrics import COMMITS, Metrics
from mcp_ingest.spool import Spool
from mcp_ingest.spool.chunk import Stamp, decode, encode, stamped
from mcp_ingest.spool.model import InputKey, Intake, NewChunk, OutputKey, Settlement, SpoolSettings

OUTPUT = "elasticsearch"
WORDS = ["request", "served", "by", "router", "for", "tenant", "cached", "result", "latency", "upstream", "timeout"]


def show(text: str) -> None:
    """One line of the answer."""
    sys.stdout.write(text + "\n")


def lines(count: int) -> list[bytes]:
    """JSON of some 500 bytes, as the platform's services log it."""
    generator = random.Random(1)  # the same lines at every run

    def line(number: int) -> bytes:
        moment = f"2026-11-22T15:{number // 60 % 60:02}:{number % 60:02}.{generator.randrange(10**6):06}Z"
        return orjson.dumps(
            {
                "@timestamp": moment,
                "tag": "mcp.router",
                "timestamp": moment,
                "service_name": generator.choice(["model-router", "tool-gateway", "auth"]),
                "service_version": "1.4.2",
                "log_level": generator.choice(["INFO", "INFO", "DEBUG", "ERROR"]),
                "message": " ".join(generator.choices(WORDS, k=8)),
                "request_id": str(uuid.UUID(int=generator.getrandbits(128))),
                "trace_id": f"{generator.getrandbits(128):032x}",
                "span_id": f"{generator.getrandbits(64):016x}",
                "user_id": f"user-{generator.randrange(10_000)}",
                "duration_ms": generator.randrange(100_000) / 100,
                "status_code": 200,
                "metadata": {"environment": "production", "region": "eu-1"},
            }
        )

    return [line(number) for number in range(count)]


def intake(texts: list[bytes]) -> Intake:
    """One chunk of these lines, with counters as the engine has them."""
    count = len(texts)
    prefix = hashed_prefix(os.urandom(8))
    chunk = NewChunk.of(
        "mcp",
        0,
        [prefix + suffix for suffix in id_suffixes(range(count))],
        ["mcp.router"] * count,
        texts,
        {OUTPUT: ["mcp-logs-2026.11.22"] * count},
    )
    ledger: Counter[object] = Counter(
        {
            InputKey("forward", "mcp", Term.RECEIVED): count,
            InputKey("forward", "mcp", Term.ACCEPTED): count,
            OutputKey(OUTPUT, Term.ASSIGNED): count,
        }
    )
    return Intake([chunk], ledger=ledger)  # type: ignore[arg-type]


def new_spool(directory: Path) -> tuple[Spool, Metrics]:
    """A spool in a folder that is emptied first."""
    shutil.rmtree(directory, ignore_errors=True)
    metrics = Metrics()
    settings = SpoolSettings(directory=str(directory), max_bytes=ByteSize(2**33))
    return Spool(settings, {OUTPUT: "elasticsearch"}, SystemClock(), logging.getLogger("perf"), metrics), metrics


async def deliver(spool: Spool, total: int) -> None:
    """An output that keeps up: takes what is new, settles it."""
    done, after = 0, spool.mark(OUTPUT)
    while done < total:
        await spool.news(OUTPUT, after)
        chunks = await spool.fresh(OUTPUT, after, 2**22)
        after = chunks[-1].number
        count = sum(len(chunk.lines) for chunk in chunks)
        await spool.settle(Settlement(OUTPUT, after, ledger=Counter({OutputKey(OUTPUT, Term.DELIVERED): count})))
        done += count


async def through(directory: Path, size: int, commits: int, waiting: int, delivering: bool = True) -> None:
    """So many intakes of `size` events each, `waiting` of them at once, and an output behind them."""
    spool, metrics = new_spool(directory)
    await spool.open()
    texts = lines(size)
    intakes = [intake(texts) for _ in range(commits)]
    latencies: list[float] = []

    async def write(mine: list[Intake]) -> None:
        for each in mine:
            start = time.perf_counter()
            await spool.commit(each)
            latencies.append(time.perf_counter() - start)

    start, cpu = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as group:
        if delivering:
            group.create_task(deliver(spool, size * commits))
        for lane in range(waiting):
            group.create_task(write(intakes[lane::waiting]))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - start
    latencies.sort()
    events = size * commits
    shared = metrics.counter(COMMITS)._value.get()
    show(
        f"{size:5} events an intake, {waiting:3} waiting{'' if delivering else ', no output':12}:"
        f" {cpu / events * 1e6:8.2f} us CPU an event, {events / wall:9,.0f} events/s,"
        f" commit p50 {latencies[len(latencies) // 2] * 1e3:6.2f} ms,"
        f" p99 {latencies[-1 - len(latencies) // 100] * 1e3:6.2f} ms,"
        f" {commits / shared:5.1f} intakes and settlements a commit"
    )
    if not delivering:
        await backlog(spool, directory, events)
    await spool.close()


async def backlog(spool: Spool, directory: Path, events: int) -> None:
    """Open what is held, read it back from the disk, settle it."""
    await spool.close()
    settings = SpoolSettings(directory=str(directory), max_bytes=ByteSize(2**33))
    spool = Spool(settings, {OUTPUT: "elasticsearch"}, SystemClock(), logging.getLogger("perf"), Metrics())
    start, cpu = time.perf_counter(), time.process_time()
    await spool.open()
    opening = time.perf_counter() - start
    await deliver(spool, events)
    cpu = time.process_time() - cpu
    show(f"      the same read back: {cpu / events * 1e6:8.2f} us CPU an event, opened in {opening * 1e3:.0f} ms")
    await spool.close()


def alone(name: str, function: Callable[[], object], events: int, rounds: int = 50) -> None:
    """The least CPU of some rounds."""
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time_ns()
        function()
        best = min(best, time.process_time_ns() - start)
    show(f"{name:40} {best / events / 1000:8.3f} us CPU an event")


def codec() -> None:
    """Encoding and decoding alone."""
    for size in (1, 100, 1000):
        new = intake(lines(size)).chunks[0]
        stamp = Stamp(bytes(16), 1, 1)
        body = encode(stamped(new, stamp), stamp.uuid)
        alone(f"encode a chunk of {size}", lambda new=new, stamp=stamp: encode(stamped(new, stamp), stamp.uuid), size)  # type: ignore[misc]
        alone(f"decode a chunk of {size}", lambda body=body: decode(body, 1, {bytes(16)}), size)  # type: ignore[misc]
        show(f"{'':40} {len(body) / size:8.0f} bytes an event of {len(new.entries) / size:.0f}")


async def main() -> None:
    """All of it."""
    parent = sys.argv[1] if len(sys.argv) > 1 else None
    directory = Path(tempfile.mkdtemp(prefix="perf-spool-", dir=parent)) / "spool"
    codec()
    await through(directory, 1000, 400, 1)
    await through(directory, 1000, 400, 8)
    await through(directory, 1000, 400, 8, delivering=False)
    await through(directory, 1, 500, 1)
    await through(directory, 1, 5000, 100)
    await through(directory, 1, 5000, 100, delivering=False)
    shutil.rmtree(directory.parent)


if __name__ == "__main__":
    asyncio.run(main())
