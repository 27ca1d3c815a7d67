"""CPU an event of the whole daemon: forward in, all of `pipelines/mcp.yaml`, the fsynced spool, out.

    python -m perf.throughput --url http://localhost:9200 --events 200000     into Elasticsearch
    python -m perf.throughput --events 1000000                                into the embedded store
    python -m perf.throughput --events 6000 --chunk 3 --rate 300              small messages, slowly

Sends packed chunks with ack over several connections and waits until all is delivered; prints the CPU microseconds an
event from the operating system, the floor (decoding the same bytes to dicts and serialising them again, nothing else)
in the same run, the rate, the share of a core, and the most anonymous memory the daemon had.
"""

from __future__ import annotations

import argparse
import os
import socket
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import orjson

from mcp_ingest.engine.tuning import tune_allocator
from perf.records import records
from tests.integration.configurations import to_elasticsearch, to_store
from tests.integration.daemon import Daemon


def main() -> None:
    """Run it once and print what it cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="an Elasticsearch; without it the embedded store")
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--connections", type=int, default=2)
    parser.add_argument("--chunk", type=int, default=1000, help="events in a chunk")
    parser.add_argument("--rate", type=float, default=0, help="events a second; 0 is as fast as it goes")
    arguments = parser.parse_args()
    tune_allocator()
    packed = [_packed(list(records(arguments.chunk, seed))) for seed in range(20)]
    floor = _floor(packed, arguments.chunk)
    with tempfile.TemporaryDirectory() as directory:
        seconds, cpu, peak = _measure(Path(directory), packed, arguments)
    each = cpu / arguments.events * 1e6
    print(f"{each:.2f} µs of CPU an event, {each / floor:.1f} floors of {floor:.2f} µs")
    print(f"{arguments.events / seconds:,.0f} events/s, {cpu / seconds:.0%} of a core, {peak / 1024:.0f} MB anonymous")


def _packed(chunk: list[dict[str, Any]]) -> bytes:
    return b"".join(msgpack.packb([1_780_000_000 + n, record]) for n, record in enumerate(chunk))


def _floor(packed: list[bytes], count: int) -> float:
    """Microseconds an event to decode and serialise again, best of 7."""
    decoder = msgspec.msgpack.Decoder(list[tuple[Any, dict]])  # type: ignore[type-arg]
    best = []
    for _ in range(7):
        began = time.process_time()
        for chunk in packed:
            entries = decoder.decode(b"\xdc" + count.to_bytes(2, "big") + chunk)
            for _, record in entries:
                orjson.dumps(record)
        best.append((time.process_time() - began) / (len(packed) * count) * 1e6)
    return min(best)


def _measure(directory: Path, packed: list[bytes], arguments: argparse.Namespace) -> tuple[float, float, int]:
    """Wall seconds, CPU seconds and peak KiB of anonymous memory of one run."""
    index = f"throughput-{time.time_ns()}"
    config = to_elasticsearch(arguments.url, index) if arguments.url else to_store(directory)
    with Daemon(directory, config) as daemon:
        assert daemon.process is not None
        pid = daemon.process.pid
        before, began = _cpu(pid), time.monotonic()
        senders = [
            threading.Thread(target=_send, args=(daemon.forward_port, packed, number, arguments))
            for number in range(arguments.connections)
        ]
        for sender in senders:
            sender.start()
        peak = 0
        while any(sender.is_alive() for sender in senders) or not daemon.drained():
            peak = max(peak, _anonymous(pid))
            time.sleep(0.2)
        seconds, cpu = time.monotonic() - began, _cpu(pid) - before
        daemon.assert_closed()
    if arguments.url:
        urllib.request.urlopen(urllib.request.Request(f"{arguments.url}/{index}", method="DELETE"), timeout=30).close()
    return seconds, cpu, peak


def _send(port: int, packed: list[bytes], number: int, arguments: argparse.Namespace) -> None:
    chunks = arguments.events // arguments.connections // arguments.chunk
    pause = arguments.chunk * arguments.connections / arguments.rate if arguments.rate else 0
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for sent in range(chunks):
            option = {"chunk": f"{number:08}-{sent:08}-abc", "size": arguments.chunk}
            connection.sendall(msgpack.packb(["mcp.perf", packed[sent % len(packed)], option]))
            if b"ack" not in connection.recv(1000):
                raise SystemExit("no ack")
            time.sleep(max(0.0, began + (sent + 1) * pause - time.monotonic()) if pause else 0)


def _anonymous(pid: int) -> int:
    return int(Path(f"/proc/{pid}/status").read_text().split("RssAnon:")[1].split()[0])


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
