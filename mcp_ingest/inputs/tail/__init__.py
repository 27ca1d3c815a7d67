"""Follow text files: each line becomes an event, exactly once, also over rotation, restart and `kill -9`.

Each line becomes the record `{"message": line}` without a time; stages read the rest out of it. Line ends are LF
or CR LF; empty lines are no events. A line is read when its line end has come, or when its file is let go.

Guarantees. The offset is committed in the same transaction as the events, and an id is made of the file and the
byte where the line begins: no line is lost or doubled by a crash. A file is known by device, inode and its content,
so a new name changes nothing: what is renamed (`app.log` to `app.log.1`) is read to its end, and for
`rotate_wait_seconds` longer, also when it was renamed in its directory while the daemon was down. What came and was
rotated away while the daemon was down is found by its name beside the path (`app.log.1`, `app.log-20261122`). A
truncated or replaced file begins anew, under the same uid, in the next generation.

When not. What is written between the last read and a truncation (logrotate's `copytruncate`) is lost with the
file's content; the copy is a new file, so leave it out of the globs. What was compressed or deleted while the
daemon was down cannot be read, nor, while it runs, a file that came and was renamed out of the globs before a scan
saw it: match the rotated names, too (`app.log*`), where rotation is that quick. Compressed files are left out.

Which files. A scan every `scan_seconds` decides (up to four times as long where it would take more than a hundredth
of the time, and never more than a tenth); on Linux, inotify lets it and the reads come at once. Files stay
open, up to `max_open_files` and the process's limit; see `followed.py` for what happens above it. At the first start
of this input, `start_at` says where files begin; files that appear later are read from their head. If damage on disk
took the positions, all files are read from their head, whatever it says: nothing is skipped, and some of it may come
a second time, until the folder with what was set aside is deleted.

Logs of mcp-ingest itself are not read, whatever the globs say: neither the present one nor what was rotated or copied
away of it, which is known by how its lines begin (JSON; in plain text it is not known).

With several workers a file is followed by the one whose spool holds its position; a new one falls to a worker by its
inode, so that a rename changes nothing (`whose.py`).

Metrics: `mcp_ingest_tail_files`, `mcp_ingest_tail_unread_bytes`, `mcp_ingest_sanitized_values` (lines with bytes
that are not in the encoding, which became U+FFFD). Lines over `max_line_bytes` are dead letters with the
reason `too_large`.
"""

from __future__ import annotations

import asyncio
import re
import resource
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from mcp_ingest.codecs.lines import is_line_encoding
from mcp_ingest.component import ByteSize, Duration, Emit, Example, Input, Settings
from mcp_ingest.context import Context
from mcp_ingest.inputs.tail.discovery import Found, Globs, Hints
from mcp_ingest.inputs.tail.files import read_positions
from mcp_ingest.inputs.tail.followed import Followed
from mcp_ingest.inputs.tail.reader import Reader, Reading
from mcp_ingest.inputs.tail.whose import Whose
from mcp_ingest.masking import safe_text
from mcp_ingest.metrics import TAIL_FILES, TAIL_UNREAD_BYTES

_TICK_SECONDS = 1.0
_COALESCE_SECONDS = 0.05  # hints that come this close together are one
_SCAN_SHARE = 10  # a scan takes no more than this part of the time,
_QUIET_SHARE = 100  # and this one while inotify says that no names came or went,
_QUIET_INTERVALS = 4  # but comes after so many intervals at the latest: it was slow because others were busy, perhaps
_OTHER_DESCRIPTORS = 256  # left for sockets, the spool and other inputs
_STARTED = "started"  # the key that says that this input ran before


class Tail(Input):
    """See the module."""

    class Config(Settings):
        """Which files, from where, and how a line becomes an event."""

        paths: Annotated[
            list[str], Meta(description="Globs of the files to follow; `**` means any directories.", min_length=1)
        ]
        exclude: Annotated[
            list[str],
            Meta(description="Globs of files to leave out; one without a slash is compared with the file's name."),
        ] = msgspec.field(default_factory=lambda: ["*.gz", "*.bz2", "*.xz", "*.zst", "*.zip"])
        tag: Annotated[
            str,
            Meta(description="The events' tag; `{path}` is the file's path with dots for slashes, `{name}` its name."),
        ] = "tail"
        start_at: Annotated[
            Literal["head", "end"],
            Meta(
                description="Where files begin that are there when this input starts for the very first time; "
                "files that appear later are always read from their head."
            ),
        ] = "end"
        scan_seconds: Annotated[
            Duration,
            Meta(
                description="Time between two looks at all globs, more where looking takes long; "
                "where there is no inotify, one second at the most."
            ),
        ] = msgspec.field(default_factory=lambda: Duration(5))
        rotate_wait_seconds: Annotated[
            Duration,
            Meta(description="How long a file that was renamed or deleted must be quiet until it is let go."),
        ] = msgspec.field(default_factory=lambda: Duration(5))
        max_line_bytes: Annotated[
            ByteSize, Meta(description="A longer line is a dead letter, of which the first 256 bytes are kept.")
        ] = msgspec.field(default_factory=lambda: ByteSize(2**20))
        max_open_files: Annotated[
            int, Meta(description="Files kept open; above it those that were idle longest are closed.", ge=1)
        ] = 16_384
        path_field: Annotated[
            str | None, Meta(description="Field of the record that gets the file's path; none if empty.")
        ] = None
        encoding: Annotated[
            str, Meta(description="The files' encoding, any of Python's that keeps ASCII's line feed.")
        ] = "utf-8"

        def check(self) -> list[str]:
            """What the types cannot say."""
            problems = []
            if not is_line_encoding(self.encoding):
                problems.append(f"encoding: {self.encoding!r} is unknown or has no one-byte line feed")
            if re.search(r"[{}]", self.tag.replace("{path}", "").replace("{name}", "")) or not self.tag:
                problems.append("tag: only {path} and {name} may stand in braces, and it must not be empty")
            if self.scan_seconds <= 0:
                problems.append("scan_seconds: must be more than 0")
            if self.max_line_bytes < 1:
                problems.append("max_line_bytes: must be at least 1")
            return problems

    EXAMPLES: ClassVar = (
        Example("Follow an application's files", {"paths": ["/var/log/mcp/*.log"], "tag": "mcp.file"}),
        Example(
            "Read everything that is there, below any directory, and say from which file it came",
            {"paths": ["/srv/**/*.log"], "exclude": ["debug-*"], "start_at": "head", "path_field": "log_path"},
        ),
    )

    sharing = "items"
    pulls = True

    def __init__(self, config: Any, context: Context) -> None:
        super().__init__(config, context)
        self._changed = asyncio.Event()

    async def run(self, emit: Emit) -> None:
        """Follow the files until cancelled."""
        config, context = self.config, self.context
        prefix = self._prefix
        state = dict(context.state(prefix))
        never = state.pop(prefix + _STARTED, None) is None
        first_start = never and not any(prefix + _STARTED in each for each in context.share.positions.values())
        self._followed = Followed(
            read_positions(state, prefix),
            context.clock,
            context.logger,
            self._open_limit(),
            config.max_line_bytes,
            context.own_files,
            Whose.of(context.share, prefix),
        )
        self._at_end = first_start and config.start_at == "end" and not context.lost_positions()
        self._globs = Globs(config.paths, config.exclude)
        first: dict[str, bytes | None] = {}
        if never:
            first[prefix + _STARTED] = str(context.clock.time_ns()).encode()
        hints = Hints()
        try:
            await self._scan(hints)
            self._followed.recover()
            self._at_end = False
            context.ready(f"tail {len(self._followed.files)} files")
            while True:
                first = await self._follow(emit, hints, first)
                await self._take_settings(hints)
        finally:
            hints.close()
            self._followed.close()

    @property
    def _prefix(self) -> str:
        return f"tail/{self.context.name}/"

    async def _follow(self, emit: Emit, hints: Hints, first: dict[str, bytes | None]) -> dict[str, bytes | None]:
        """Read until there are other settings; what is not committed yet of `first`."""
        config = self.config
        reading = Reading(config.tag, config.max_line_bytes, config.encoding, config.path_field, self._prefix)
        reader = Reader(reading, self._followed, self.context, first)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._watch(hints, reader)), group.create_task(reader.run(emit))]
            await self._changed.wait()
            for task in tasks:
                task.cancel()
        return reader.first

    # --- other settings ------------------------------------------------------------------------------------

    def change_to(self, config: Any) -> Callable[[], None] | None:
        """See `Input.change_to`: files that are still matched stay open, and are read on."""
        return lambda: self._change(config)

    def _change(self, config: Any) -> None:
        self.config = config
        self._changed.set()

    async def _take_settings(self, hints: Hints) -> None:
        self._changed.clear()
        config = self.config
        self._followed.change(self._open_limit(), config.max_line_bytes)
        self._globs = Globs(config.paths, config.exclude)
        self._followed.leave((await self._scan(hints)).files)
        self.context.ready(f"tail {len(self._followed.files)} files")

    def place_of(self, prefix: bytes, position: int) -> str | None:
        """See `Input.place_of`: the file, as long as its position is kept."""
        uid, generation = prefix[:12], int.from_bytes(prefix[12:], "big")
        key = f"tail/{self.context.name}/"
        found = read_positions(self.context.state(key + uid.hex()), key).get(uid)
        if found is None:
            return None
        before = "" if found.generation == generation else ", before it was truncated or replaced"
        return f"{safe_text(found.path)}, the line at byte {position:,}{before}"

    def _open_limit(self) -> int:
        """`max_open_files` as far as the process may, whose limit is raised for it where that is allowed."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted: int = self.config.max_open_files + _OTHER_DESCRIPTORS
        if hard != resource.RLIM_INFINITY:
            wanted = min(wanted, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return max(1, wanted - _OTHER_DESCRIPTORS)

    # --- watching ------------------------------------------------------------------------------------------

    async def _watch(self, hints: Hints, reader: Reader) -> None:
        """Scan, then take hints until the next scan is due."""
        clock = self.context.clock
        while True:
            hints.names = False
            begun = clock.monotonic()
            await self._scan(hints, reader)
            reader.woken.set()
            now = clock.monotonic()
            soon = now + _SCAN_SHARE * (now - begun)
            interval = self._interval(hints)
            quiet = min(_QUIET_SHARE * (now - begun), _QUIET_INTERVALS * interval) if hints.complete else 0
            due = max(soon, now + max(interval, quiet))
            while (now := clock.monotonic()) < (soon if hints.names else due):
                await hints.wait(min(_TICK_SECONDS, (soon if hints.names else due) - now))
                self._take_hints(hints, reader)
                await asyncio.sleep(_COALESCE_SECONDS)

    def _take_hints(self, hints: Hints, reader: Reader) -> None:
        """Let what changed be read."""
        self._followed.changed(hints.changed())
        self._followed.look_at_gone(self.config.rotate_wait_seconds)
        self._followed.forget()
        if self._followed.ready or self._followed.forgotten:
            reader.woken.set()

    async def _scan(self, hints: Hints, reader: Reader | None = None) -> Found:
        """Look at all globs and take over what is there; a long look holds up no hints."""
        async with asyncio.TaskGroup() as group:
            look = group.create_task(asyncio.to_thread(self._globs.find))
            look.add_done_callback(lambda _: hints.wake())
            while reader is not None and not look.done():
                await hints.wait(_TICK_SECONDS)
                self._take_hints(hints, reader)
                await asyncio.wait({look}, timeout=_COALESCE_SECONDS)
        found = look.result()
        hints.watch(found.directories)
        self._followed.apply(found.files, self._at_end)
        labels = {"input": self.context.name}
        self.context.metrics.gauge(TAIL_FILES, **labels).set(len(self._followed.files))
        self.context.metrics.gauge(TAIL_UNREAD_BYTES, **labels).set(self._followed.unread())
        return found

    def _interval(self, hints: Hints) -> float:
        seconds = float(self.config.scan_seconds)
        return seconds if hints.complete else min(seconds, _TICK_SECONDS)
