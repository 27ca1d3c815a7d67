"""Works as parts of requests: cut, counted and put together. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mcp_ingest.engine.account import Work
from mcp_ingest.verdict import Part


def as_part(work: Work) -> Part:
    """What an output gets of it."""
    chunk, indices = work.chunk, work.indices
    places = [work.destination] * len(indices)
    if is_whole(work):
        return Part(chunk.name, chunk.ids, chunk.times, chunk.tags, places, chunk.lines, chunk.entries)
    return Part(
        chunk.name,
        [chunk.ids[i] for i in indices],
        [chunk.times[i] for i in indices],
        [chunk.tags[i] for i in indices],
        places,
        [work.repaired.get(i, chunk.lines[i]) for i in indices],
    )


def check(works: Iterable[Work]) -> None:
    """DamagedChunkError if the stored data of one of the chunks cannot be read."""
    for work in works:
        len(work.chunk.lines.values)


def is_whole(work: Work) -> bool:
    """Whether the work has all of its chunk's events, as they are stored."""
    return len(work.indices) == len(work.chunk.tags) and not work.repaired


def part(work: Work, indices: Sequence[int]) -> Work:
    """The same work with these events alone."""
    return Work(work.chunk, work.destination, indices, work.attempt, work.repaired, trial=work.trial)


def line_bytes(work: Work) -> int:
    """Bytes of the lines of the work's events, without line ends; counted once."""
    if work.line_bytes < 0:
        chunk = work.chunk
        if len(work.indices) == len(chunk.tags):
            work.line_bytes = chunk.line_bytes
        else:
            lines = chunk.lines
            work.line_bytes = sum([len(lines[index]) for index in work.indices])
    return work.line_bytes


def fitting(work: Work, room: int, events: int, beside: int) -> int:
    """How many of the work's events fit into so many bytes; each has `beside` bytes more than its line."""
    if len(work.indices) <= events and is_whole(work) and work.chunk.line_bytes + len(work.indices) * beside <= room:
        return len(work.indices)
    lines = work.chunk.lines
    for count, index in enumerate(work.indices[:events]):
        room -= len(lines[index]) + beside
        if room < 0:
            return count
    return min(len(work.indices), events)


def halves(works: list[Work], middle: int) -> tuple[list[Work], list[Work]]:
    """The same events as two requests, the first with `middle` events."""
    first: list[Work] = []
    second: list[Work] = []
    for work in works:
        here = min(middle, len(work.indices))
        middle -= here
        if here:
            first.append(part(work, work.indices[:here]))
        if here < len(work.indices):
            second.append(part(work, work.indices[here:]))
    return first, second
