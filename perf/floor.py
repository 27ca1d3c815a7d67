"""The floor: what decoding packed events to dicts and serialising them again costs in Python, and nothing else.

    python -m perf.floor        prints the microseconds of CPU an event

All costs are given as multiples of it, because machines differ by a factor of two and the same one from minute to
minute. The events are those of the load generator, 20 chunks of 1,000: msgspec decodes a chunk behind an array header
in one call, orjson serialises each record on its own, the chunk's lines are held together; the best of 7 rounds counts.
It is to be run in a process of its own, with the allocator's thresholds set and the collector frozen, as the daemon
does. On two cores that others used as well it took 2.0 to 3.4 µs (median of five 2.8), with glibc's defaults 3.1 to 5.0
(3.6); the decoding alone 1.5 to 1.8. It says little alone: measure it beside what is given in it, more than once.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec
import orjson

from mcp_ingest.client.forward import pack
from mcp_ingest.engine.tuning import tune_allocator, tune_collector
from perf.records import records

EVENTS = 1_000  # in a chunk
_CHUNKS, _ROUNDS = 20, 7
_HEADER = b"\xdc" + EVENTS.to_bytes(2, "big")  # an array of so many


Decoder = msgspec.msgpack.Decoder[list[tuple[Any, dict[str, Any]]]]


def prepared() -> tuple[Decoder, list[bytes]]:
    """The decoder, and the chunks that it shall decode."""
    decoder = msgspec.msgpack.Decoder(list[tuple[Any, dict[str, Any]]])
    chunks = [_HEADER + pack([(time.time_ns(), record) for record in records(EVENTS, n)]) for n in range(_CHUNKS)]
    return decoder, chunks


def seconds(decoder: Decoder, chunks: list[bytes]) -> float:
    """CPU seconds of this thread for these chunks."""
    began = time.thread_time()
    for chunk in chunks:
        lines = [orjson.dumps(record) for _, record in decoder.decode(chunk)]
    assert len(lines) == EVENTS
    return time.thread_time() - began


def floor() -> float:
    """Microseconds an event, of this process as it is set up."""
    decoder, chunks = prepared()
    return min(seconds(decoder, chunks) for _ in range(_ROUNDS)) / (_CHUNKS * EVENTS) * 1e6


def main() -> None:
    """Print it."""
    tune_allocator()
    tune_collector()
    print(f"{floor():.4f}")


if __name__ == "__main__":
    main()
