"""The folders of the store: `DIRECTORY/DAY/PART`, each part an index of its own.

DAY is the event's day, or `undated-DAY` with the day of receipt. A part takes some 100,000 events: then it is
finished and the day gets a new one. So merges stay small (and with them memory), retention by bytes lets go one part
and not a day, and a search can stop when the newest parts had enough. A part's name is its birth in milliseconds;
`part.json`, written when it is finished, has its times and its chunks. A part that cannot be opened is set aside
as `PART.damaged`. With several workers each has such a folder of its own: worker 0 the store's, the others `worker-K`
in it.
"""

from __future__ import annotations

import re
import shutil
import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import msgspec
from tantivy import Document, Index, IndexWriter, Order, Query, Searcher

from mcp_ingest.errors import OutputError
from mcp_ingest.outputs.store import schema

SECOND = 1_000_000_000
DAY = 86_400 * SECOND

#: An event whose time lies further from its receipt has no day worth a folder.
OLDEST_BEFORE, NEWEST_AFTER = 30 * DAY, DAY

_FOLDER = re.compile(r"(?:undated-)?(\d{4}-\d\d-\d\d)")
_PART = re.compile(r"\d{13}")
_WORKER = re.compile(r"worker-\d+")


class Bounds(NamedTuple):
    """The oldest and the newest time in a part, nanoseconds since 1970."""

    oldest: int
    newest: int


class Summary(msgspec.Struct):
    """What is written of a finished part: its times, and its chunks as ranges of numbers by their spool's uuid."""

    oldest: int
    newest: int
    chunks: dict[str, list[tuple[int, int]]]

    def has(self, chunk: str) -> bool:
        """Whether the part has events of this chunk."""
        uuid, _, number = chunk.rpartition("-")
        ranges = self.chunks.get(uuid, [])
        place = bisect_right(ranges, (int(number), sys.maxsize)) - 1
        return place >= 0 and ranges[place][0] <= int(number) <= ranges[place][1]


class Place(NamedTuple):
    """A part on disk; sorts by day, then by birth."""

    day: str
    born: int  # milliseconds since 1970
    path: Path

    def expires(self, retention: int) -> int:
        """When it is to go: `retention` nanoseconds after the end of its day, or after its birth if that is later.

        So what arrives late, as Elasticsearch's lifecycle has it, is not gone at once.
        """
        return max(day_end(self.day), self.born * 1_000_000) + retention

    def size(self) -> int:
        """Bytes of its files."""
        total = 0
        with suppress(FileNotFoundError):  # another worker dropped it
            for file in self.path.iterdir():
                with suppress(FileNotFoundError):  # a merge just replaced it
                    total += file.stat().st_size
        return total


def day_name(number: int) -> str:
    """The folder of a day, by its number since 1970."""
    return (date(1970, 1, 1) + timedelta(days=number)).isoformat()


def day_end(name: str) -> int:
    """The end of a folder's day, nanoseconds since 1970."""
    match = _FOLDER.fullmatch(name)
    assert match is not None
    return int(datetime.fromisoformat(match[1]).replace(tzinfo=UTC).timestamp()) * SECOND + DAY


def places(directory: Path) -> list[Place]:
    """Every part there is, oldest day first."""
    return sorted(
        Place(day.name, int(part.name), part)
        for day in _children(directory)
        if _FOLDER.fullmatch(day.name)
        for part in _children(day)
        if _PART.fullmatch(part.name)
    )


def shelves(directory: Path) -> list[Path]:
    """The folders that workers write to, each its own: that of worker 0 is the store's, the others lie in it."""
    return [directory, *sorted(folder for folder in _children(directory) if _WORKER.fullmatch(folder.name))]


def all_places(directory: Path) -> list[Place]:
    """Every part of every worker."""
    return sorted(place for shelf in shelves(directory) for place in places(shelf))


def _children(directory: Path) -> Iterator[Path]:
    with suppress(FileNotFoundError, NotADirectoryError):
        yield from list(directory.iterdir())


def summary(place: Place) -> Summary | None:
    """What is written of a finished part; None for one that is not finished."""
    with suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode((place.path / "part.json").read_bytes(), type=Summary)
    return None


def bounds(place: Place, searcher: Searcher) -> Bounds | None:
    """The times in a part, from its summary or from its column; None for an empty one."""
    if found := summary(place):
        return Bounds(found.oldest, found.newest)
    everything, times = Query.all_query(), []
    for order in (Order.Asc, Order.Desc):
        hits = searcher.search(everything, 1, count=False, order_by_field="time", order=order).hits
        if not hits:
            return None
        times.append(int(hits[0][0]))
    return Bounds(*times)


class Part:
    """An index that is written to; its writer is opened at the first change, and nothing of a finished one is held.

    An open index holds some 20 MiB for 100,000 events, so of a finished one only the names of its chunks are kept.
    """

    def __init__(self, place: Place, heap: int) -> None:
        self.place = place
        self.events = 0
        self.uncommitted: set[str] = set()
        self._heap = heap
        self._index: Index | None = None
        self._searcher: Searcher | None = None
        self._writer: IndexWriter | None = None
        self._summary = summary(place)
        place.path.mkdir(parents=True, exist_ok=True)
        if self._summary is None:
            self.events = self._opened().num_docs

    @property
    def finished(self) -> bool:
        """Whether nothing is added any more."""
        return self._summary is not None

    @property
    def writing(self) -> bool:
        """Whether a writer is open."""
        return self._writer is not None

    def forget(self, chunk: str) -> None:
        """Take out what an earlier delivery of this chunk put in."""
        if chunk in self.uncommitted or self._has(chunk):
            self._open().delete_documents_by_term("chunk", chunk)
            self.uncommitted.add(chunk)

    def add(self, chunk: str, documents: list[Document]) -> None:
        """Put in the events of a chunk, visible and durable with the next commit."""
        writer = self._open()
        self.uncommitted.add(chunk)
        for made in documents:
            writer.add_document(made)
        self.events += len(documents)

    def commit(self) -> None:
        """Make durable and visible what was changed."""
        if self._writer is not None and self.uncommitted:
            self._writer.commit()
            self._refresh()
            self.uncommitted.clear()

    def finish(self) -> None:
        """Commit, let merges end, and write the summary: nothing is added any more."""
        self.commit()
        self.release(wait=True)
        searcher = self._opened()
        if self._summary is None and (found := bounds(self.place, searcher)):
            self._summary = Summary(*found, _ranges(name for name, _ in searcher.terms_with_prefix("chunk", "")))
            temporary = self.place.path / "part.json.new"
            temporary.write_bytes(msgspec.json.encode(self._summary))
            temporary.replace(self.place.path / "part.json")
        self.release()

    def release(self, wait: bool = False) -> None:
        """Let go of the writer and its memory; what was not committed is forgotten."""
        writer, self._writer = self._writer, None
        self.uncommitted.clear()
        if writer is not None and wait:
            writer.wait_merging_threads()
        if self.finished:
            self._index = self._searcher = None

    def _has(self, chunk: str) -> bool:
        if self._summary is not None:
            return self._summary.has(chunk)
        return self._opened().doc_freq("chunk", chunk) > 0

    def _opened(self) -> Searcher:
        if self._searcher is None:
            self._index = Index(schema.schema(), str(self.place.path))
            schema.register(self._index)
            self._index.config_reader("manual")
            return self._refresh()
        return self._searcher

    def _refresh(self) -> Searcher:
        assert self._index is not None
        self._index.reload()
        self._searcher = self._index.searcher()
        return self._searcher

    def _open(self) -> IndexWriter:
        if self._writer is None:
            self._opened()
            assert self._index is not None
            try:
                self._writer = self._index.writer(self._heap, 1)
            except ValueError as error:
                if "lock" in str(error).lower():
                    raise OutputError(f"another process writes to the store in {self.place.path}") from error
                raise
        return self._writer


def _ranges(names: Iterable[str]) -> dict[str, list[tuple[int, int]]]:
    """Names of chunks (`uuid-number`) as ranges of numbers: those of a part are close together."""
    numbers: dict[str, list[int]] = {}
    for name in names:
        uuid, _, number = name.rpartition("-")
        numbers.setdefault(uuid, []).append(int(number))
    ranges: dict[str, list[tuple[int, int]]] = {}
    for uuid, found in numbers.items():
        made = ranges.setdefault(uuid, [])
        for value in sorted(found):
            if made and made[-1][1] == value - 1:
                made[-1] = (made[-1][0], value)
            else:
                made.append((value, value))
    return ranges


def is_damage(error: Exception) -> bool:
    """Whether an index cannot be opened for what it is, not for what the system lacks (files, memory, rights).

    tantivy tells both by ValueError; the system's errors have their number in the text. 2 is a missing file.
    """
    number = re.search(r"os error (\d+)", str(error))
    return isinstance(error, ValueError) and (number is None or number[1] == "2")


def set_aside(place: Place) -> Path:
    """Rename a damaged part so that nobody looks at it any more; nothing is deleted."""
    aside = place.path.with_name(place.path.name + ".damaged")
    place.path.rename(aside)
    return aside


def drop(place: Place) -> None:
    """Delete a part, and its day's folder with the last one."""
    shutil.rmtree(place.path, ignore_errors=True)
    with suppress(OSError):
        place.path.parent.rmdir()
