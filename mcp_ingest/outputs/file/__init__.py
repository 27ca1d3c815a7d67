"""`file`: appends each event as a line of JSON to a file chosen by its tag, time and fields; `….gz` is compressed.

What it is for: archives, and handing logs to programs that read files. The path may hold `{tag}`, `{field}` and
`{@timestamp:FORMAT}` (days and hours, UTC); an event dated 30 days before its receipt or a day after it goes to
`undated`. A compressed file gets one gzip member with each request, which every gzip reads as one file.

With several workers each appends to files of its own, so that nothing is torn: worker 0 to those of the path, the
others to files of the same names in a folder `worker-K` beside them.

Guarantees: what is answered is fsynced. Lines are never cut and never there twice, also after a crash: files are cut
back to their committed length at the start, and what was written of a chunk is known again. Files may be renamed or
deleted between requests; nothing is kept open. A file that cannot be written (no rights, a folder in its place) waits
alone and is tried every 5 seconds; on a full or failing disk all wait.

Metrics: those of every output.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from mcp_ingest.codecs.compression import compress_gzip
from mcp_ingest.component import Example, Output, OutputSettings, Settings
from mcp_ingest.context import Context
from mcp_ingest.errors import OutputError
from mcp_ingest.event import Batch
from mcp_ingest.outputs.file.journal import Journal, Piece
from mcp_ingest.outputs.file.template import folder, of_worker, paths, template_problem
from mcp_ingest.verdict import DELIVERED, DUPLICATE, AllDelivered, Each, Park, Request, Unknown, Verdicts


class FileConfig(OutputSettings, kw_only=True):
    """Where the lines go."""

    path: Annotated[
        str, Meta(description="Path with `{tag}`, `{field}`, `{@timestamp:%Y-%m-%d}`; compressed if it ends in `.gz`.")
    ]

    def check(self) -> list[str]:
        """What is wrong with the path."""
        problem = template_problem(self.path)
        return [*super().check(), *([f"path: {self.path!r} {problem}"] if problem else [])]


class File(Output):
    """See the module."""

    Config: ClassVar[type[Settings]] = FileConfig
    EXAMPLES: ClassVar[Sequence[Example]] = (
        Example(
            "A compressed file for each tag and day", {"path": "/var/log/mcp/{tag}/{@timestamp:%Y-%m-%d}.ndjson.gz"}
        ),
        Example("One file", {"path": "/var/log/mcp/all.ndjson"}),
    )

    whole_chunks = True
    #: One after the other: the journal knows of one request under way.
    concurrency = 1

    def __init__(self, config: Any, context: Context) -> None:
        super().__init__(config, context)
        self._path = of_worker(config.path, context.share.suffix)
        self._paths = paths(self._path)
        self._compressed = config.path.endswith(".gz")
        self._journal: Journal | None = None
        self._thread: ThreadPoolExecutor | None = None

    async def start(self) -> None:
        """Take the journal and cut files back to what it says; `OutputError` where that cannot be."""
        name = re.sub(r"[^A-Za-z0-9_-]", "_", self.context.name)
        worker = f".{suffix}" if (suffix := self.context.share.suffix) else ""
        path = Path(folder(self._path)) / f".mcp-ingest-{name}{worker}.json"
        try:
            self._journal = self._journal or await asyncio.to_thread(Journal, path)
        except BlockingIOError as error:
            raise OutputError(f"another process writes the files of {path.parent}") from error
        except OSError as error:
            raise OutputError(f"the journal {path} cannot be used: {error}") from error
        self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix=f"file-{self.context.name}")

    def address(self, batch: Batch) -> list[str]:
        """The path of each event."""
        return self._paths.address(batch)

    async def write(self, request: Request) -> Verdicts:
        """Append what is not there yet; a file that cannot be written is parked, and has nothing of the request."""
        if self._thread is None or self._journal is None:
            return Unknown("the output is not open")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._append, self._journal, request)
        except OSError as error:
            return Unknown(f"a file cannot be written: {error}")

    async def close(self) -> None:
        """Let go of the journal once what is under way is written."""
        thread, journal = self._thread, self._journal
        self._thread = self._journal = None
        if thread is not None and journal is not None:
            await asyncio.get_running_loop().run_in_executor(thread, journal.close)
            thread.shutdown(wait=False)

    def _append(self, journal: Journal, request: Request) -> Verdicts:
        lines: dict[Piece, list[bytes]] = {}
        rows: list[Piece] = []
        for part in request.parts:
            for path, line in zip(part.destinations, part.lines, strict=True):
                piece = Piece(part.chunk, path)
                lines.setdefault(piece, []).append(line)
                rows.append(piece)
        known = {piece for piece in lines if journal.knows(piece)}
        refused: dict[str, OSError] = {}
        if new := [piece for piece in lines if piece not in known]:
            refused = journal.append(self._contents(new, lines), new)
        if not known and not refused:
            return AllDelivered()
        parked = {path: Park(f"the file cannot be written: {error.strerror}") for path, error in refused.items()}
        return Each([DUPLICATE if piece in known else parked.get(piece.path, DELIVERED) for piece in rows])

    def _contents(self, new: list[Piece], lines: dict[Piece, list[bytes]]) -> dict[str, bytes]:
        joined: dict[str, list[bytes]] = {}
        for piece in new:
            joined.setdefault(piece.path, []).extend(lines[piece])
        contents = {path: b"\n".join([*found, b""]) for path, found in joined.items()}
        if self._compressed:
            return {path: compress_gzip(data) for path, data in contents.items()}
        return contents
