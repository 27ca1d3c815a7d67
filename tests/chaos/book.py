"""What was sent and what of it was acknowledged, event by event."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

_WORDS = ["request", "routed", "session", "opened", "queue", "drained", "cache", "missed", "upstream", "answered"]
_WORDS += ["late", "retrying", "shard", "moved", "tokens", "counted", "budget", "spent", "worker", "restarted"]
_SHOWN = 10


@dataclass
class Comparison:
    """What was found beside what was sent; each list is cut to a few examples, the numbers are whole."""

    stored: int = 0
    lost: int = 0
    doubled: int = 0
    strangers: int = 0
    examples: list[str] = field(default_factory=list)

    def problems(self) -> list[str]:
        """A sentence for each kind of event that is not as it should be."""
        counts = {
            "acknowledged and not stored": self.lost,
            "stored more than once": self.doubled,
            "stored and never sent": self.strangers,
        }
        shown = ", ".join(self.examples)
        return [f"{count} events are {what} (of all: {shown})" for what, count in counts.items() if count]


class Book:
    """Every event has a key, its source and a number (`f-17`), which its message ends with: `… #f-17`."""

    def __init__(self) -> None:
        self._sources: dict[str, bytearray] = {}  # 1 for each event that is acknowledged

    def write(self, source: str, count: int = 1) -> range:
        """The numbers of so many new events."""
        noted = self._sources.setdefault(source, bytearray())
        first = len(noted)
        noted.extend(bytes(count))
        return range(first, first + count)

    def acknowledge(self, source: str, numbers: range) -> None:
        """From now on these must be stored."""
        self._sources[source][numbers.start : numbers.stop] = b"\1" * len(numbers)

    def sent(self, source: str | None = None) -> int:
        """How many events were sent, of this source or of all."""
        return sum(len(noted) for name, noted in self._sources.items() if source in (None, name))

    def acknowledged(self, source: str | None = None) -> int:
        """How many of them were acknowledged."""
        return sum(sum(noted) for name, noted in self._sources.items() if source in (None, name))

    def compare(self, found: Counter[str]) -> Comparison:
        """`found` are the keys that are stored, and how often. What was not acknowledged may be there once or not."""
        result = Comparison(stored=found.total())
        for source, noted in self._sources.items():
            for number, acknowledged in enumerate(noted):
                times = found.pop(f"{source}-{number}", 0)
                result.lost += acknowledged and not times
                result.doubled += times > 1
                if (acknowledged and not times) or times > 1:
                    result.examples.append(f"{source}-{number} {times} times")
        result.strangers = len(found)
        result.examples += [f"{key} a stranger" for key in found]
        del result.examples[_SHOWN:]
        return result


def message(rng: random.Random, source: str, number: int) -> str:
    """A text of 30 to 300 letters that ends with the event's key."""
    return f"{' '.join(rng.choices(_WORDS, k=rng.randrange(5, 40)))} #{source}-{number}"


def key_of(message: str) -> str:
    """The key that a message ends with; the message itself where it has none."""
    return message.rpartition("#")[2]
