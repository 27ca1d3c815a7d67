"""Appending so that a crash leaves neither half a line nor a line twice: used by one thread at a time.

Before a request's lines are appended, the journal notes how long each of its files is; when they are fsynced, it
notes the request's pieces in place of that: what a chunk has for one file. Whoever finds lengths in it at the start
cuts the files back to them, and a piece that it names is not written again. Each note replaces the journal's file
and is fsynced.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

import msgspec

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
    lengths: dict[str, int] = {}  # of the files of the request under way, before it
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

    def append(self, contents: dict[str, bytes], pieces: list[Piece]) -> None:
        """Append to each file, all or nothing, and remember the pieces; `OSError` leaves everything as it was."""
        before = self._notes.pieces
        lengths = self._notes.lengths = {os.path.abspath(path): _length(path) for path in contents}
        self._write()
        try:
            for path, data in contents.items():
                _append(Path(path), data)
            self._notes = _Notes({}, _with(before, pieces))
            self._write()
        except BaseException:
            self._notes = _Notes(lengths, before)
            self._cut_back()
            raise
        self._known = {uuid: set(keys) for uuid, keys in self._notes.pieces.items()}

    def close(self) -> None:
        """Let others have it."""
        self._lock.close()

    def _cut_back(self) -> None:
        for path, length in self._notes.lengths.items():
            with suppress(FileNotFoundError), open(path, "r+b") as file:
                if file.seek(0, os.SEEK_END) > length:
                    file.truncate(length)
                    os.fsync(file.fileno())
        self._notes.lengths = {}
        self._write()

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


def _length(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


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
