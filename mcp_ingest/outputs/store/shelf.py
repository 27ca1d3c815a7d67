"""All parts of a store as its one writer sees them: used by one thread at a time, never by the event loop."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import orjson
from tantivy import Document

from mcp_ingest.context import Clock
from mcp_ingest.outputs.store import parts, schema
from mcp_ingest.outputs.store.parts import Part, Place
from mcp_ingest.verdict import Part as Chunk

#: A part is finished when it has as many events: what merges and searches cost at once grows with it.
PART_EVENTS = 100_000
#: Parts with an open writer at a time; each has a heap of its own.
MAX_WRITERS = 3
#: A writer that got nothing for so many seconds is closed.
IDLE_SECONDS = 60.0
#: Parts are looked through for what is too old or too much every so many seconds.
SWEEP_SECONDS = 30.0


class Shelf:
    """Adds whole chunks, commits, and drops what is too old (`retention`, nanoseconds) or too much (`max_bytes`).

    Where several workers write to the store, each has a shelf in a folder of its own, named by `worker`; `max_bytes`
    holds for all together, and each drops what is its own.
    """

    def __init__(self, store: Path, clock: Clock, heap: int, retention: int, max_bytes: int, worker: str = "") -> None:
        self.directory = directory = store / worker
        self._store = store
        self.damaged: list[Path] = []
        self._clock, self._heap, self._retention, self._max_bytes = clock, heap, retention, max_bytes
        self._days: OrderedDict[str, list[Part]] = OrderedDict()  # least recently written first
        self._used: dict[str, float] = {}
        self._swept = -SWEEP_SECONDS
        directory.mkdir(parents=True, exist_ok=True)
        self.sweep()

    # --- writing -------------------------------------------------------------------------------------------

    def add(self, chunk: Chunk) -> None:
        """Put in a chunk in place of what an earlier delivery of it left, in every day that it touches."""
        rows: dict[str, list[int]] = {}
        for index, day in enumerate(chunk.destinations):
            rows.setdefault(day, []).append(index)
        for day, indices in rows.items():
            for part in self._day(day):
                part.forget(chunk.chunk)
            self._current(day).add(chunk.chunk, [_document(chunk, index) for index in indices])
            self._rest(keep=day)

    def commit(self) -> None:
        """Make durable and visible all that was added; then finish what is full, sweep now and then."""
        for day, opened in list(self._days.items()):
            for part in opened:
                part.commit()
            if opened and opened[-1].events >= PART_EVENTS:
                opened[-1].finish()
            for part in opened[:-1]:
                part.release()
            if self._clock.monotonic() - self._used[day] > IDLE_SECONDS:
                self._close(day)
        if self._clock.monotonic() - self._swept >= SWEEP_SECONDS:
            self.sweep()

    def abandon(self) -> None:
        """After a failure: let go of all writers; what was not committed is not there."""
        for day in list(self._days):
            for part in self._days.pop(day):
                part.release()

    def close(self) -> None:
        """Commit and let go of everything."""
        self.commit()
        for day in list(self._days):
            self._close(day)

    def _day(self, day: str) -> list[Part]:
        self._used[day] = self._clock.monotonic()
        if day not in self._days:
            found = [place for place in parts.places(self.directory) if place.day == day]
            self._days[day] = [part for place in found if (part := self._part(place))]
        self._days.move_to_end(day)
        return self._days[day]

    def _part(self, place: Place) -> Part | None:
        try:
            return Part(place, self._heap)
        except ValueError as error:
            if not parts.is_damage(error):
                raise
            self.damaged.append(parts.set_aside(place))
            return None

    def _current(self, day: str) -> Part:
        opened = self._days[day]
        if not opened or opened[-1].finished:
            born = self._clock.time_ns() // 1_000_000
            if opened:
                born = max(born, opened[-1].place.born + 1)
            opened.append(Part(Place(day, born, self.directory / day / f"{born:013d}"), self._heap))
        return opened[-1]

    def _rest(self, keep: str) -> None:
        writing = [day for day, opened in self._days.items() if any(part.writing for part in opened)]
        for day in writing[: -MAX_WRITERS or None]:
            if day != keep:
                self._close(day)

    def _close(self, day: str) -> None:
        for part in self._days.pop(day):
            part.commit()
            part.release(wait=True)
        del self._used[day]

    # --- retention -----------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Drop the parts that are too old, then the oldest ones until the rest fits; the newest always stays."""
        self._swept = self._clock.monotonic()
        there = parts.all_places(self._store)
        kept = [place for place in there if place.expires(self._retention) > self._clock.time_ns()]
        sizes = {place: place.size() for place in kept}
        total = sum(sizes.values())
        for place in sorted(kept, key=lambda place: (parts.day_end(place.day), place.born))[:-1]:
            if total > self._max_bytes:
                total -= sizes[place]
                kept.remove(place)
        for place in there:
            if place not in kept and place.path.parent.parent == self.directory:
                self._drop(place)

    def _drop(self, place: Place) -> None:
        for part in self._days.get(place.day, []):
            if part.place == place:
                part.commit()
                part.release()
        if place.day in self._days:
            self._days[place.day] = [part for part in self._days[place.day] if part.place != place]
        parts.drop(place)


def _document(chunk: Chunk, index: int) -> Document:
    line = chunk.lines[index]
    return schema.document(_record(line), chunk.chunk, chunk.ids[index], chunk.times[index], line)


def _record(line: bytes) -> dict[str, Any]:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:  # the engine made it; if it is broken all the same, it is kept as it is
        return {}
    return record if isinstance(record, dict) else {}
