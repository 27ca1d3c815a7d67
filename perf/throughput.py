"""CPU an event of the whole daemon: forward in, all of `pipelines/mcp.yaml`, the fsynced spool, bulk out.

    python -m perf.throughput --url http://localhost:9200 --events 200000

Sends packed chunks of 1,000 with ack over several connections and waits until Elasticsearch has them; prints the CPU
microseconds an event from the operating system, the floor (decoding the same bytes to dicts and serialising them
again, nothing else) in the same run, rates, and peak memory.
"""

from __future__ import annotations

import argparse
import os
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

CHUNK = 1000


def main() -> None:
    """Run it once and print what it cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="an Elasticsearch")
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--connections", type=int, default=2)
    arguments = parser.parse_args()
    tune_allocator()
    packed = [_packed(list(records(CHUNK, seed))) for seed in range(20)]
    floor = _floor(packed)
    with tempfile.TemporaryDirectory() as directory:
        seconds, cpu, peak = _measure(Path(directory), arguments.url, packed, arguments.events, arguments.connections)
    each = cpu / arguments.events * 1e6
    print(f"{each:.2f} µs of CPU an event, {each / floor:.1f} floors of {floor:.2f} µs")
    print(f"{arguments.events / seconds:,.0f} events/s, peak memory {peak / 1024:.0f} MB")


def _packed(chunk: list[dict[str, Any]]) -> bytes:
    return b"".join(msgpack.packb([1_780_000_000 + n, record]) for n, record in enumerate(chunk))


def _floor(packed: list[bytes]) -> float:
    """Microseconds an event to decode and serialise again, best of 7."""
    decoder = msgspec.msgpack.Decoder(list[tuple[Any, dict]])  # type: ignore[type-arg]
    best = []
    for _ in range(7):
        began = time.process_time()
        for chunk in packed:
            entries = decoder.decode(b"\xdc" + CHUNK.to_bytes(2, "big") + chunk)
            for _, record in entries:
                orjson.dumps(record)
        best.append((time.process_time() - began) / (len(packed) * CHUNK) * 1e6)
    return min(best)


def _measure(directory: Path, url: str, packed: list[bytes], events: int, connections: int) -> tuple[float, float, int]:
    from tests.integration.configurations import to_elasticsearch
    from tests.integration.daemon import Daemon, wait_until

    index = f"throughput-{time.time_ns()}"
    with Daemon(directory, to_elasticsearch(url, index)) as daemon:
        assert daemon.process is not None
        pid = daemon.process.pid
        before, began = _cpu(pid), time.monotonic()
        senders = [
            threading.Thread(target=_send, args=(daemon.forward_port, packed, events // connections // CHUNK, number))
            for number in range(connections)
        ]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        wait_until(daemon.drained, 600)
        seconds, cpu = time.monotonic() - began, _cpu(pid) - before
        peak = int(Path(f"/proc/{pid}/status").read_text().split("VmHWM:")[1].split()[0])
        daemon.assert_closed()
    urllib.request.urlopen(urllib.request.Request(f"{url}/{index}", method="DELETE"), timeout=30).close()
    return seconds, cpu, peak


def _send(port: int, packed: list[bytes], chunks: int, number: int) -> None:
    import socket

    with socket.create_connection(("127.0.0.1", port)) as connection:
        for sent in range(chunks):
            option = {"chunk": f"{number:08}-{sent:08}-abc", "size": CHUNK}
            connection.sendall(msgpack.packb(["mcp.perf", packed[sent % len(packed)], option]))
            if b"ack" not in connection.recv(1000):
                raise SystemExit("no ack")


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
