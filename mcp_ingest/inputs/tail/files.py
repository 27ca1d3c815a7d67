"""One followed file: who it is, how far it was read, and the next lines of it.

A file is known by device, inode and what stands in it: a digest of its first bytes (as many as were read, up to
1024) and of the bytes just before the offset. The latter are compared at every read, without a further system
call, so that a truncation is noticed even when the file has grown past the old offset again.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from mcp_ingest.codecs.lines import HEAD_BYTES, NOTHING, Lines, LongLine, split_lines
from mcp_ingest.event import Origin, uid_prefix

BLOCK_BYTES = 256 * 1024
#: How a line of our own log begins (`engine/log.py`): what was rotated or copied away of it is known by that.
_OURS = re.compile(
    rb'\{"timestamp":"[0-9TZ:.-]{20,30}","service_name":"mcp-ingest","log_level":"[A-Z]+","logger":"mcp_'
)
_OURS_BYTES = 160
_HEAD = 1024
_BEFORE = 64

#: Device and inode.
Identity = tuple[int, int]


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()


class Position(msgspec.Struct):
    """What is stored of a file; digests are hex, times nanoseconds since 1970.

    `created` is when it was first seen, `changed` the file's own time of change when it was last read.
    """

    path: str
    dev: int
    ino: int
    generation: int
    offset: int
    head_length: int
    head: str
    before: str
    created: int
    changed: int


Stored = dict[bytes, Position]


def read_position(value: bytes) -> Position:
    """What `File.stored` made; msgspec.DecodeError or ValueError if it is no position."""
    position = msgspec.json.decode(value, type=Position)
    if position.path.startswith("\0"):
        position.path = os.fsdecode(bytes.fromhex(position.path[1:]))
    return position


def read_positions(state: Mapping[str, bytes], prefix: str) -> Stored:
    """The stored positions by uid; values that cannot be read are left out."""
    positions: Stored = {}
    for key, value in state.items():
        try:
            uid = bytes.fromhex(key.removeprefix(prefix))
            positions[uid] = read_position(value)
        except (ValueError, msgspec.MsgspecError):
            continue
    return positions


def _path_as_text(path: str) -> str:
    """The path, or behind a NUL, which no path has, the hexadecimal digits of one that is not UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return "\0" + os.fsencode(path).hex()
    return path


class Mark(NamedTuple):
    """How far a file was read: what changes, and is taken back when a commit fails."""

    generation: int = 0
    offset: int = 0
    before: bytes = b""
    head_length: int = 0
    head: str = _digest(b"")


class Taken(NamedTuple):
    """What one read brought: lines, their bytes (line ends too), and whether there may be more right now."""

    lines: Lines
    size: int
    more: bool


class NotRegularError(OSError):
    """What stands at the path is no regular file."""


def open_file(path: str) -> tuple[int, os.stat_result]:
    """A descriptor of the regular file at `path`, and its status; OSError otherwise, never waiting."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise NotRegularError(errno.EINVAL, "it is no regular file")
    return fd, status


def identity_of(status: os.stat_result) -> Identity:
    """Device and inode."""
    return status.st_dev, status.st_ino


def holds(fd: int, position: Position) -> bool:
    """Whether the open file still has what was read of it: its head, and what stands before the offset."""
    head = os.pread(fd, position.head_length, 0)
    return _digest(head) == position.head and _digest(_before(fd, position.offset)) == position.before


def line_start(fd: int, size: int, limit: int) -> int:
    """Where the line begins that the file's end stands in: behind the last line feed before `size`."""
    end = size
    while end > 0 and size - end <= limit:
        begin = max(0, end - BLOCK_BYTES)
        found = os.pread(fd, end - begin, begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return size if end else 0


def _before(fd: int, offset: int) -> bytes:
    start = max(0, offset - _BEFORE)
    return os.pread(fd, offset - start, start)


class File:
    """A followed file. `fd` is None while it is closed; `mark` is how far it was read, `durable` what is committed.

    `path` is its last place that the globs matched, `place` where it is now as far as known. `gone` is the
    monotonic time since when it is no longer at `path`. `last` says that what stands behind the last line end is
    a line, too: nobody will end it. `ours` says that it is a log of mcp-ingest: it is passed over.
    """

    __slots__ = (
        "created", "dev", "durable", "fd", "gone", "ino", "last", "mark", "metadata", "name", "ours", "path",
        "place", "scanned", "sent", "stamp", "tag", "uid",
    )  # fmt: skip

    def __init__(self, uid: bytes, path: str, identity: Identity, created: int, mark: Mark) -> None:
        self.uid = uid
        self.dev, self.ino = identity
        self.created = created
        self.fd: int | None = None
        self.mark = self.durable = mark
        self.sent: tuple[Mark, str] | None = None  # what the last emit carried
        self.scanned = 0  # in a line that is too long: up to where there is no line end
        self.gone: float | None = None
        self.last = self.ours = False
        self.stamp = (-1, -1)  # size and time of change when last looked at
        self.move_to(path)

    @classmethod
    def restored(cls, uid: bytes, path: str, identity: Identity, position: Position, fd: int) -> File:
        """The file as it was committed; one that was truncated or replaced since begins its next generation."""
        if holds(fd, position):
            before = _before(fd, position.offset)
            mark = Mark(position.generation, position.offset, before, position.head_length, position.head)
        else:
            mark = Mark(position.generation + 1)
        return cls(uid, path, identity, position.created, mark)

    @classmethod
    def new(cls, uid: bytes, path: str, identity: Identity, created: int, fd: int, offset: int) -> File:
        """A file that was not seen before, to be read from `offset`."""
        file = cls(uid, path, identity, created, Mark())
        head = os.pread(fd, min(_HEAD, offset), 0)
        file.mark = file.durable = Mark(0, offset, _before(fd, offset), len(head), _digest(head))
        return file

    @property
    def identity(self) -> Identity:
        """Device and inode."""
        return self.dev, self.ino

    def move_to(self, path: str) -> None:
        """The file has another name now, which the globs match."""
        self.path = self.place = path
        self.tag: str | None = None
        self.name = os.fsencode(path).decode("utf-8", "replace")  # for people: a path may be any bytes
        self.metadata: dict[str, Any] = {"path": self.name}

    def origin(self, name: str, received: int) -> Origin:
        """Where the lines of this generation come from, for the input of that name."""
        return Origin(name, uid_prefix(self.uid, self.mark.generation), received, self.metadata)

    def stored(self) -> bytes:
        """The mark as it is stored."""
        mark = self.mark
        return msgspec.json.encode(
            Position(
                _path_as_text(self.path),
                self.dev,
                self.ino,
                mark.generation,
                mark.offset,
                mark.head_length,
                mark.head,
                _digest(mark.before),
                self.created,
                os.fstat(self.fd).st_mtime_ns if self.fd is not None else 0,
            )
        )

    def is_somewhere(self) -> bool:
        """Whether the file still has a name, whichever."""
        return self.fd is not None and os.fstat(self.fd).st_nlink > 0

    def go_back(self) -> None:
        """To what is committed."""
        self.mark = self.durable
        self.sent = None
        self.scanned = 0

    def close(self) -> None:
        """Let go of the descriptor."""
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None

    # --- reading -------------------------------------------------------------------------------------------

    def opened(self, fd: int) -> None:
        """This is its descriptor from now on."""
        self.fd = fd
        self.ours = _OURS.match(os.pread(fd, _OURS_BYTES, 0)) is not None

    def take(self, limit: int, encoding: str) -> Taken:
        """The next whole lines, a block of them at the most; of a line over `limit` bytes its place and length.

        Raises OSError where the file cannot be read.
        """
        if self.scanned:
            return self._find_end(limit)
        wanted = BLOCK_BYTES
        data = self._read(wanted)
        if not self.mark.offset:
            self.ours = _OURS.match(data) is not None
        if self.ours:
            self._advance(len(data), data[-_BEFORE:])
            return Taken(NOTHING, 0, len(data) == wanted)
        end = data.rfind(b"\n") + 1
        if not end and len(data) == wanted <= limit:
            wanted = limit + 1
            data = self._read(wanted)
            end = data.rfind(b"\n") + 1
        more = len(data) == wanted
        if not end and len(data) > limit:
            self.scanned = self.mark.offset + len(data)
            return Taken(NOTHING, 0, True)
        if self.last and not more:
            end = len(data)
        if not end:
            return Taken(NOTHING, 0, False)
        whole = data if end == len(data) else data[:end]
        lines = split_lines(whole, self.mark.offset, limit, encoding)
        self._advance(end, whole[-_BEFORE:])
        return Taken(lines, end, more)

    def _read(self, size: int) -> bytes:
        assert self.fd is not None
        before, offset = self.mark.before, self.mark.offset
        data = os.pread(self.fd, len(before) + size, offset - len(before))
        if data.startswith(before):
            return data[len(before) :] if before else data
        self._begin_again()
        return os.pread(self.fd, size, 0)

    def _begin_again(self) -> None:
        """The file was truncated (copytruncate) or written anew: its next generation."""
        self.mark = Mark(self.mark.generation + 1)
        self.scanned = 0

    def _advance(self, count: int, tail: bytes) -> None:
        generation, offset, before, head_length, head = self.mark
        offset += count
        if head_length < _HEAD:
            assert self.fd is not None
            first = os.pread(self.fd, min(_HEAD, offset), 0)
            head_length, head = len(first), _digest(first)
        self.mark = Mark(generation, offset, (before + tail)[-_BEFORE:], head_length, head)

    def _find_end(self, limit: int) -> Taken:
        """One block further in a line that is too long; nothing of it is kept."""
        assert self.fd is not None
        offset = self.mark.offset
        if os.fstat(self.fd).st_size < self.scanned or _before(self.fd, offset)[-_BEFORE:] != self.mark.before:
            self._begin_again()
            return Taken(NOTHING, 0, True)
        data = os.pread(self.fd, BLOCK_BYTES, self.scanned)
        found = data.find(b"\n")
        if found < 0 and not (self.last and len(data) < BLOCK_BYTES):
            self.scanned += len(data)
            return Taken(NOTHING, 0, len(data) == BLOCK_BYTES)
        end = self.scanned + (found if found >= 0 else len(data))
        long = LongLine(offset, end - offset, os.pread(self.fd, HEAD_BYTES, offset))
        self.scanned = 0
        end += found >= 0
        self._advance(end - offset, _before(self.fd, end))
        return Taken(Lines([], [], 0, [long]), end - offset, True)
