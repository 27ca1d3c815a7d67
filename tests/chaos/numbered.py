"""Sends numbered events by forward with ack until its input ends: `python -m tests.chaos.numbered PORT…`.

A process of its own, so that it does not count as memory of the daemon beside it. Each lane has a port, a connection
and a thread; its events are `LANE NUMBER`, in chunks that wait for their ack, and are sent again over a new connection
under the same chunk id until it comes. At its end it prints for each lane how many events were acknowledged, and the
seconds that each ack took.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from dataclasses import asdict, dataclass, field

from mcp_ingest.client.forward import ForwardSender

_LARGEST = 30
_PAUSE = 0.01
_ATTEMPTS = 12  # some minutes


@dataclass
class Lane:
    """What was acknowledged so far."""

    events: int = 0
    seconds: list[float] = field(default_factory=list)


def _send(number: int, port: int, lane: Lane, ended: threading.Event) -> None:
    rng = random.Random(number)
    with ForwardSender(port=port, timeout=10, attempts=_ATTEMPTS) as sender:
        while not ended.is_set():
            numbers = range(lane.events, lane.events + rng.randint(1, _LARGEST))
            began = time.monotonic()
            sender.send(f"lane{number}", [(0, {"message": f"{number} {event}"}) for event in numbers])
            lane.seconds.append(time.monotonic() - began)
            lane.events += len(numbers)
            time.sleep(_PAUSE)


def main(ports: list[int]) -> None:
    """Send until standard input ends."""
    lanes, ended = [Lane() for _ in ports], threading.Event()
    threads = [
        threading.Thread(target=_send, args=(number, port, lanes[number], ended), daemon=True)
        for number, port in enumerate(ports)
    ]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    ended.set()
    for thread in threads:
        thread.join()
    print(json.dumps([asdict(lane) for lane in lanes]))


if __name__ == "__main__":
    main([int(port) for port in sys.argv[1:]])
