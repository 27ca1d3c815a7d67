"""Measures the embedded store: `python perf/store.py [EVENTS] [--keep FOLDER]`.

Fills a store in a process of its own with events as the platform's services send them, as fast as it takes them, then
feeds it a steady 300 events/s in chunks of three; prints CPU an event, bytes an event, and the anonymous memory at its
highest. Then asks each search of a list in this process, three times, and prints the slowest.

Measured with 1,000,000 events on two cores that others used as well: 122 µs an event (the making of the events in it;
45 of it Python's share), 307 bytes an event on disk, RssAnon 148 MiB at the most (with a heap of 20 MiB; it is
16 MB now), 300 events/s 8.9 % of a core, slowest answer 0.7 s, slowest search 102 ms (under a load of 7: 164 ms).
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import orjson

from mcp_ingest.context import Context
from mcp_ingest.engine.search import checks, lucene, store
from mcp_ingest.outputs.store import Store
from mcp_ingest.verdict import AllDelivered, Part, Request

CHUNK = 1_000
STEADY_SECONDS = 30
SERVICES = ["model-router", "gateway", "auth", "billing", "tool-registry", "session-store"]
LEVELS = ["INFO"] * 80 + ["DEBUG"] * 12 + ["WARNING"] * 5 + ["ERROR"] * 3
WORDS = ("request", "completed", "for", "user", "after", "connecting", "upstream", "tool", "call", "context", "timeout")
SEARCHES = [
    "*", "log_level:ERROR", "log_level:ERROR AND service_name:model-router", "completed", '"tool call"',
    "message:time*", "message:*pstrea*", "service_name:*router", "request_id:req-*", "request_id:req-00*",
    "trace_id:a*", "duration_ms:>=900", "duration_ms:[100 TO 100.5]", "status_code:[500 TO 599]",
    "NOT log_level:INFO", "metadata.region:eu-1", "tokens:>4000", "tokens:*", "user_id:user-77",
    "service_version:[1.2 TO 1.3]", "hostname:*node-1*", "_exists_:error_code", "needle", "unheard_of:x",
    "@timestamp:>=now-1h AND log_level:ERROR", "trace_id:*", "user_id:>user-5", "message:req*",
    "(log_level:ERROR OR log_level:WARNING) AND duration_ms:>500 AND NOT service_name:auth",
]  # fmt: skip


def record(number: int, now: int, chance: random.Random) -> bytes:
    """An event's line, 480 bytes or so."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9)) + f".{now % 10**9:09d}Z"
    event: dict[str, Any] = {
        "@timestamp": stamp, "tag": "mcp.app", "timestamp": stamp,
        "service_name": chance.choice(SERVICES), "service_version": f"1.{chance.randrange(5)}.0",
        "log_level": chance.choice(LEVELS),
        "message": " ".join(chance.choices(WORDS, k=8)) + f" in {chance.randrange(10_000)} ms, req {number}",
        "request_id": f"req-{number:08d}", "trace_id": f"{chance.getrandbits(128):032x}",
        "span_id": f"{chance.getrandbits(64):016x}", "user_id": f"user-{chance.randrange(5_000)}",
        "operation": "tools/call", "duration_ms": round(chance.random() * 1000, 2), "status_code": 200,
        "metadata": {"environment": "production", "region": chance.choice(["eu-1", "us-2"])},
        "tokens": chance.randrange(4_100), "hostname": f"node-{chance.randrange(40)}",
    }  # fmt: skip
    if number == 12_345:
        event["message"] += " needle"
    return orjson.dumps(event)


def chunk(number: int, first: int, count: int, chance: random.Random) -> Part:
    """A chunk of so many events, a millisecond apart, up to now."""
    start = time.time_ns()
    times = [start + index * 1_000 for index in range(count)]
    lines = [record(first + index, times[index], chance) for index in range(count)]
    day = time.strftime("%Y-%m-%d", time.gmtime(start // 10**9))
    ids = [f"{first + index:028d}" for index in range(count)]
    return Part(f"{'ab' * 16}-{number}", ids, times, ["mcp.app"] * count, [day] * count, lines)


def anonymous() -> int:
    """RssAnon of this process in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("RssAnon"))


def on_disk(directory: Path) -> int:
    """Bytes of all files."""
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())


async def fill(directory: str, events: int) -> None:
    """Write the events, then the steady stream, and print what it cost."""
    output = Store(Store.Config(directory=directory), Context(name="store"))
    await output.start()
    chance, highest, spent, writing = random.Random(1), 0, 0.0, set[asyncio.Task[Any]]()
    started = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(events // CHUNK):
            made = chunk(number, number * CHUNK, CHUNK, chance)
            before = time.process_time()
            while len(writing) >= output.concurrency:
                _, writing = await asyncio.wait(writing, return_when=asyncio.FIRST_COMPLETED)
            writing.add(group.create_task(write(output, made)))
            await asyncio.sleep(0)
            spent += time.process_time() - before
            highest = max(highest, anonymous())
    wall = time.monotonic() - started
    size = await asyncio.to_thread(on_disk, Path(directory))
    print(f"fill: {events} events, {wall:.0f} s, {spent / events * 1e6:.0f} us CPU an event (all threads)")
    print(f"disk: {size / events:.0f} bytes an event; RssAnon {highest} MiB at the most")
    await steady(output, events, chance)
    await output.close()


async def write(output: Store, made: Part) -> None:
    """One request."""
    assert isinstance(await output.write(Request([made])), AllDelivered)


async def steady(output: Store, events: int, chance: random.Random) -> None:
    """300 events/s in chunks of three, as many requests at once as delivery has."""
    before, started, number, waiting = time.process_time(), time.monotonic(), 0, list[Part]()
    slots = asyncio.Semaphore(output.concurrency)
    slowest = 0.0

    async def send(parts: list[Part]) -> None:
        nonlocal slowest
        begun = time.monotonic()
        await output.write(Request(parts))
        slowest = max(slowest, time.monotonic() - begun)
        slots.release()

    async with asyncio.TaskGroup() as group:
        while (now := time.monotonic() - started) < STEADY_SECONDS:
            while number < now * 100:
                waiting.append(chunk(10**6 + number, events + number * 3, 3, chance))
                number += 1
            if waiting and not slots.locked():
                await slots.acquire()
                group.create_task(send(waiting))
                waiting = []
            await asyncio.sleep(0.01)
    share = (time.process_time() - before) / (time.monotonic() - started)
    print(f"steady: 300 events/s take {share:.1%} of a core; slowest answer {slowest:.2f} s; RssAnon {anonymous()} MiB")


def ask(directory: Path) -> None:
    """Every search three times, and the slowest."""
    slowest = 0.0
    for text in SEARCHES:
        taken = []
        for _ in range(3):
            started = time.perf_counter()
            check = lucene.parse(text, time.time_ns())
            found = store.search(directory, check, checks.Between(None, None), 100)
            taken.append(time.perf_counter() - started)
        slowest = max(slowest, *taken)
        total = f"{'' if found.exact else '>='}{found.total}"
        print(f"{max(taken) * 1e3:7.1f} ms (best {min(taken) * 1e3:6.1f})  {total:>10}  {text}")
    print(f"slowest search: {slowest * 1e3:.0f} ms")


def main() -> None:
    """Fill in a process of its own, ask here."""
    if sys.argv[1] == "fill":
        asyncio.run(fill(sys.argv[2], int(sys.argv[3])))
        return
    directory = sys.argv[sys.argv.index("--keep") + 1] if "--keep" in sys.argv else tempfile.mkdtemp()
    if not os.path.exists(directory) or not os.listdir(directory):
        subprocess.run([sys.executable, __file__, "fill", directory, sys.argv[1]], check=True)
    ask(Path(directory))


if __name__ == "__main__":
    main()
