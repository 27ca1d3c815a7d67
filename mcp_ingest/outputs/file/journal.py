"""Appending so that a crash leaves neither half a line nor a line twice: used by one thread at a time.

Before a request's lines are appended, the journal notes how long each of its files is; when they are fsynced, it
notes the request's pieces in place of that: what a chunk has for one file. Whoever finds lengths in it at the start
cuts the files back to them, and a piece that it names is not written again. Each note replaces the journal's file
and is fsynced.

A file that cannot be written (no rights, a folder in its place) has nothing of the request and harms no other. One
that cannot be cut back either keeps its length in the journal, and nothing is appended to it before it was cut.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

import msgspec

#: What is no matter of one file: a full disk, one that fails, no descriptors or memory.
_OF_THE_DISK = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENFILE, errno.EMFILE, errno.ENOMEM, errno.ENOBUFS}
)
#: Pieces remembered for each spool: many more than the requests of which nobody heard whether they were written.
REMEMBERED = 2_000


class Piece(NamedTuple):
    """What a chunk has for one file."""

    chunk: str  # the spool's uuid, a dash, a number
    path: str

    def key(self) -> tuple[str, str]:
        """The spool's uuid, and what names the piece within it in few letters."""
        uuid, _, number = self.chunk.rpartition("-")
        return uuid, f"{number}.{hashlib.blake2b(self.path.encode(), digest_size=6).hexdigest()}"


class _Notes(msgspec.Struct):
    lengths: dict[str, int] = {}  # of the files of the request under way, before it, and of those to be cut back
    pieces: dict[str, list[str]] = {}  # by the spool's uuid, newest last


class Journal:
    """The journal beside the files of one output; `OSError` where another process holds it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        _make_folder(path.parent)
        self._lock: IO[bytes] = path.with_suffix(".lock").open("wb")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._notes = self._read()
            self._cut_back()
        except BaseException:
            self._lock.close()
            raise
        self._known = {uuid: set(keys) for uuid, keys in self._notes.pieces.items()}

    def knows(self, piece: Piece) -> bool:
        """Whether this was written before."""
        uuid, key = piece.key()
        return key in self._known.get(uuid, ())

    def append(self, contents: dict[str, bytes], pieces: list[Piece]) -> dict[str, OSError]:
        """Append to each file, all or nothing, and remember the pieces; why some cannot be written, by path.

        Those have nothing of it, and their pieces are not remembered. `OSError` where disk or journal fail: then no
        file has.
        """
        torn = self._cut_back() if self._notes.lengths else {}
        lengths, refused = _lengths(contents, torn)
        if not lengths:
            return refused
        before = self._notes
        self._notes = _Notes({**before.lengths, **lengths}, before.pieces)
        try:
            self._write()
            for path, data in contents.items():
                if path not in refused:
                    with _noted(refused, path):
                        _append(Path(path), data)
            self._take_back(refused, lengths, before.lengths)
            taken = [piece for piece in pieces if piece.path not in refused]
            self._notes = _Notes(self._notes.lengths, _with(before.pieces, taken))
            self._write()
        except BaseException:
            self._notes = _Notes({**before.lengths, **lengths}, before.pieces)
            self._cut_back()
            raise
        self._known = {uuid: set(keys) for uuid, keys in self._notes.pieces.items()}
        return refused

    def close(self) -> None:
        """Let others have it."""
        self._lock.close()

    def _cut_back(self) -> dict[str, OSError]:
        """Cut the files back; those that cannot be stay in the notes, and why is returned."""
        torn: dict[str, OSError] = {}
        for path, length in self._notes.lengths.items():
            try:
                _cut(path, length)
            except OSError as error:
                torn[path] = error
        self._notes.lengths = {path: length for path, length in self._notes.lengths.items() if path in torn}
        self._write()
        return torn

    def _take_back(self, refused: Iterable[str], lengths: dict[str, int], torn: dict[str, int]) -> None:
        """What was begun in these files goes; the notes are of those in which it stays, and of the `torn` ones."""
        self._notes.lengths = dict(torn)
        for place in map(os.path.abspath, refused):
            if place in lengths:
                try:
                    _cut(place, lengths[place])
                except OSError:
                    self._notes.lengths[place] = lengths[place]

    def _read(self) -> _Notes:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_Notes)
        except FileNotFoundError:
            return _Notes()
        except msgspec.DecodeError:  # the disk lied: nothing can be cut back, and what is damaged is kept
            self._path.replace(self._path.with_suffix(".damaged"))
            return _Notes()

    def _write(self) -> None:
        temporary = self._path.with_suffix(".new")
        with temporary.open("wb") as file:
            file.write(msgspec.json.encode(self._notes))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)
        _sync_folder(self._path.parent)


def _with(before: dict[str, list[str]], pieces: list[Piece]) -> dict[str, list[str]]:
    """What is remembered, with these pieces; the oldest are forgotten, but none of these."""
    after = {uuid: list(keys) for uuid, keys in before.items()}
    for piece in pieces:
        uuid, key = piece.key()
        after.setdefault(uuid, []).append(key)
    keep = max(REMEMBERED, len(pieces))
    return {uuid: keys[-keep:] for uuid, keys in after.items()}


def _lengths(paths: Iterable[str], torn: Mapping[str, OSError]) -> tuple[dict[str, int], dict[str, OSError]]:
    """How long the files are, by absolute path, and of which that cannot be told or which are `torn`, by path."""
    lengths: dict[str, int] = {}
    refused: dict[str, OSError] = {}
    for path in paths:
        place = os.path.abspath(path)
        with _noted(refused, path):
            if place in torn:
                raise torn[place]
            lengths[place] = _length(path)
    return lengths, refused


@contextmanager
def _noted(refused: dict[str, OSError], path: str) -> Iterator[None]:
    """Note what is wrong with this file; what is no matter of it is raised."""
    try:
        yield
    except OSError as error:
        if error.errno in _OF_THE_DISK:
            raise
        refused[path] = error


def _cut(path: str, length: int) -> None:
    with suppress(FileNotFoundError), open(path, "r+b") as file:
        if file.seek(0, os.SEEK_END) > length:
            file.truncate(length)
            os.fsync(file.fileno())


def _length(path: str) -> int:
    """0 where it is not there yet; OSError where it could not be appended to and cut back again."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return 0
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")
    return status.st_size


def _append(path: Path, data: bytes) -> None:
    new = not path.exists()
    if new:
        _make_folder(path.parent)
    with path.open("ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    if new:
        _sync_folder(path.parent)


def _make_folder(folder: Path) -> None:
    """The folder and those above it, each durably named in the one that it stands in."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in missing:
        _sync_folder(each.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
