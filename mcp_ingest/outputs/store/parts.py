"""The folders of the store: `DIRECTORY/DAY/PART`, each part an index of its own.

DAY is the event's day, or `undated-DAY` with the day of receipt. A part takes some 100,000 events: then it is
finished and the day gets a new one. So merges stay small (and with them memory), retention by bytes lets go one part
and not a day, and a search can stop when the newest parts had enough. A part's name is its birth in milliseconds;
`part.json`, written when it is finished, has its oldest and newest time. A part that cannot be opened is set aside
as `PART.damaged`.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
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


class Bounds(msgspec.Struct, frozen=True):
    """The oldest and the newest time in a part, nanoseconds since 1970."""

    oldest: int
    newest: int


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


def _children(directory: Path) -> Iterator[Path]:
    with suppress(FileNotFoundError, NotADirectoryError):
        yield from list(directory.iterdir())


def bounds(place: Place, searcher: Searcher) -> Bounds | None:
    """The times in a part, from its file or from its column; None for an empty one."""
    with suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode((place.path / "part.json").read_bytes(), type=Bounds)
    everything, found = Query.all_query(), []
    for order in (Order.Asc, Order.Desc):
        hits = searcher.search(everything, 1, count=False, order_by_field="time", order=order).hits
        if not hits:
            return None
        found.append(int(hits[0][0]))
    return Bounds(*found)


class Part:
    """An index that is written to; its writer is opened at the first change."""

    def __init__(self, place: Place, heap: int) -> None:
        self.place = place
        place.path.mkdir(parents=True, exist_ok=True)
        self.index = Index(schema.schema(), str(place.path))
        self.index.register_tokenizer(schema.WORDS, schema.analyzer())
        self.index.config_reader("manual")
        self.index.reload()
        self.searcher = self.index.searcher()
        self.events = self.searcher.num_docs
        self.finished = (place.path / "part.json").exists()
        self.uncommitted: set[str] = set()
        self._heap = heap
        self._writer: IndexWriter | None = None

    def forget(self, chunk: str) -> None:
        """Take out what an earlier delivery of this chunk put in."""
        if chunk in self.uncommitted or self.searcher.doc_freq("chunk", chunk):
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
            self.index.reload()
            self.searcher = self.index.searcher()
            self.uncommitted.clear()

    def finish(self) -> None:
        """Commit and write down the times: nothing is added any more."""
        self.commit()
        self.release(wait=True)
        if not self.finished and (found := bounds(self.place, self.searcher)):
            temporary = self.place.path / "part.json.new"
            temporary.write_bytes(msgspec.json.encode(found))
            temporary.replace(self.place.path / "part.json")
        self.finished = True

    def release(self, wait: bool = False) -> None:
        """Let go of the writer and its memory; what was not committed is forgotten."""
        writer, self._writer = self._writer, None
        self.uncommitted.clear()
        if writer is not None and wait:
            writer.wait_merging_threads()

    @property
    def writing(self) -> bool:
        """Whether a writer is open."""
        return self._writer is not None

    def _open(self) -> IndexWriter:
        if self._writer is None:
            try:
                self._writer = self.index.writer(self._heap, 1)
            except ValueError as error:
                if "lock" in str(error).lower():
                    raise OutputError(f"another process writes to the store in {self.place.path}") from error
                raise
        return self._writer


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
