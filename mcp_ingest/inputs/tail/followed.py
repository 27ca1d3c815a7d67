"""All files that one tail input follows: what a scan means for them, which have something to read, which are open.

Descriptors stay open, so that a file that is renamed or deleted can be read to its end. Above `max_open_files`
the files that were idle longest are closed and opened again when they change; such a file survives a rename in
its directory, and what is deleted before that is lost.
"""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Container, Iterable, Mapping

from mcp_ingest.context import Clock
from mcp_ingest.event import new_uid
from mcp_ingest.inputs.tail.discovery import find_inodes, rotated
from mcp_ingest.inputs.tail.files import (
    File,
    Identity,
    Position,
    Stored,
    holds,
    identity_of,
    line_start,
    open_file,
    read_position,
)
from mcp_ingest.inputs.tail.whose import Whose
from mcp_ingest.masking import safe_text

_FORGET_SECONDS = 3600
_LOOK_SECONDS = 0.2


class Followed:
    """The files by identity and by path; `ready` are those to be read, in turn; `forgotten` uids to be deleted."""

    def __init__(
        self,
        stored: Stored,
        clock: Clock,
        logger: logging.Logger,
        max_open: int,
        max_line: int,
        own: frozenset[Identity] = frozenset(),
        whose: Whose | None = None,
    ) -> None:
        self._own = own
        self._whose = whose or Whose()
        self.files: dict[Identity, File] = {}
        self.ready: OrderedDict[File, None] = OrderedDict()
        self.forgotten: set[bytes] = set()
        self._paths: dict[str, File] = {}
        self._gone: set[File] = set()
        self._look_at = 0.0
        self._open: OrderedDict[File, None] = OrderedDict()  # the one idle longest comes first
        self._clock = clock
        self._logger = logger
        self._max_open = max_open
        self._max_line = max_line
        self._refused: set[str] = set()
        self._forget_at: float | None = None
        self._let_go: dict[bytes, tuple[str, int]] = {}  # directory and inode of files whose position is kept
        self._stored: dict[int, list[tuple[bytes, Position]]] = {}
        self._changed: dict[str, int] = {}  # when the newest file that was read at this path was changed last
        for uid, position in stored.items():
            self._stored.setdefault(position.ino, []).append((uid, position))
            self._changed[position.path] = max(self._changed.get(position.path, 0), position.changed)
        for path, moment in self._whose.changed.items():
            self._changed[path] = max(self._changed.get(path, 0), moment)

    # --- what a scan means ---------------------------------------------------------------------------------

    def apply(self, found: Mapping[str, os.stat_result], at_end: bool) -> None:
        """Take over what a scan saw; files not seen before begin at their end or at their head."""
        present: set[File] = set()
        for path, status in found.items():
            if not self._is_ours_to_read(identity_of(status)):
                continue
            file = self.files.get(identity_of(status)) or self._begin(path, at_end)
            if file is None:
                continue
            present.add(file)
            if file.path != path:
                self._renamed(file, path, found)
            file.gone, file.last = None, False
            stamp = (status.st_size, status.st_mtime_ns)
            if stamp != file.stamp:
                file.stamp = stamp
                self.ready[file] = None
        for file in [f for f in self.files.values() if f not in present]:
            self._missing(file)
        self._paths = {file.path: file for file in self.files.values() if file.gone is None}
        self._gone = {file for file in self.files.values() if file.gone is not None}

    def _is_ours_to_read(self, identity: Identity) -> bool:
        """Not our own log, which reading would feed, nor another worker's file."""
        return identity not in self._own and self._whose.mine(identity[1])

    def _begin(self, path: str, at_end: bool) -> File | None:
        try:
            fd, status = open_file(path)
        except OSError as error:
            self.refuse(path, error)
            return None
        self._refused.discard(path)
        identity = identity_of(status)
        followed = self.files.get(identity)
        if followed or not self._is_ours_to_read(identity):  # another file than the scan saw there
            os.close(fd)
            return followed
        known = self._known(fd, path, identity)
        if known:
            file = File.restored(known[0], path, identity, known[1], fd)
        else:
            now = self._clock.time_ns()
            offset = line_start(fd, status.st_size, self._max_line) if at_end else 0
            file = File.new(new_uid(now), path, identity, now, fd, offset)
        self._follow(file, fd)
        return file

    def _known(self, fd: int, path: str, identity: Identity) -> tuple[bytes, Position] | None:
        """The stored position of this file: by device and inode, or by inode and what stands in it.

        A device's number may be another one after a reboot.
        """
        candidates = self._stored.get(identity[1], [])
        for entry in candidates:
            position = entry[1]
            same_content = position.offset > 0 and holds(fd, position)
            if position.dev == identity[0] or same_content or (position.path == path and position.offset == 0):
                candidates.remove(entry)
                return entry
        return None

    def _follow(self, file: File, fd: int) -> None:
        file.opened(fd)
        self.files[file.identity] = file
        if file.gone is None:
            self._paths[file.path] = file
        self.ready[file] = None
        self._touch(file)
        if file.ours:
            self._logger.info("tail: %s is a log of mcp-ingest: it is not read", safe_text(file.name))
            return
        self._logger.debug("tail: following %s from byte %d", safe_text(file.name), file.mark.offset)

    def _renamed(self, file: File, path: str, found: Mapping[str, os.stat_result]) -> None:
        before = found.get(file.path)
        if before is None or identity_of(before) != file.identity:  # else: a second name of the same file
            file.move_to(path)
            self.ready[file] = None

    def _missing(self, file: File) -> None:
        if file.gone is None:
            try:
                if identity_of(os.stat(file.path)) == file.identity:
                    return  # there, only not seen: an unreadable directory, say
            except FileNotFoundError:
                pass
            except OSError:
                return
            file.gone = self._clock.monotonic()
        self.ready[file] = None

    def refuse(self, path: str, error: OSError) -> None:
        """Say once that this file cannot be read."""
        if path not in self._refused and not isinstance(error, FileNotFoundError):
            self._refused.add(path)
            self._logger.warning("tail: cannot read %s: %s", safe_text(path), error.strerror)

    def recover(self) -> None:
        """After the first scan: look for stored files that no glob matched, and finish those that were renamed.

        Looks in the directory where each stood. What is not found may turn up for an hour (a file system that is
        mounted late), then it is forgotten. A file that came and was rotated away while we were down has no
        position: it is known by its name, and by having changed after everything that was read at its path.
        """
        directories: dict[str, list[tuple[bytes, Position]]] = {}
        for entry in self._waiting():
            directories.setdefault(os.path.dirname(entry[1].path), []).append(entry)
        for directory, entries in directories.items():
            places = find_inodes(directory, {position.ino for _, position in entries})
            for uid, position in entries:
                if self._resume(uid, position, places.get(position.ino)):
                    self._stored[position.ino].remove((uid, position))
                else:
                    self._logger.info(
                        "tail: %s was deleted or moved away while we were down; what stood behind byte %d is not read",
                        safe_text(position.path),
                        position.offset,
                    )
        self._forget_at = self._clock.monotonic() + _FORGET_SECONDS
        self._adopt()

    def _adopt(self) -> None:
        """Read what was rotated away unseen: files that nobody knows and that changed after all that was read there."""
        known = {identity[1] for identity in self.files} | {ino for ino, entries in self._stored.items() if entries}
        directories: dict[str, dict[str, int]] = {}
        for path, moment in self._changed.items():
            directory, name = os.path.split(path)
            directories.setdefault(directory, {})[name] = moment
        for directory, names in directories.items():
            for name, beside in rotated(directory, names).items():
                for place, status in sorted(beside, key=lambda each: each[1].st_mtime_ns):
                    unseen = status.st_mtime_ns > names[name] and status.st_ino not in known
                    if unseen and self._is_ours_to_read(identity_of(status)):
                        known.add(status.st_ino)
                        self._adopt_one(place, os.path.join(directory, name))

    def _adopt_one(self, place: str, path: str) -> None:
        try:
            fd, status = open_file(place)
        except OSError as error:
            self.refuse(place, error)
            return
        now, identity = self._clock.time_ns(), identity_of(status)
        if identity in self.files or not self._is_ours_to_read(identity):  # not the one that was seen there
            os.close(fd)
            return
        self._follow_gone(File.new(new_uid(now), path, identity, now, fd, 0), place, fd)

    def _waiting(self) -> list[tuple[bytes, Position]]:
        """Stored files that are not followed and no longer where they stood."""
        return [entry for entries in self._stored.values() for entry in entries if not _stands(entry[1])]

    def forget(self) -> None:
        """Every hour, forget stored files that did not turn up, and files let go that are deleted by now."""
        if self._forget_at is None or self._clock.monotonic() < self._forget_at:
            return
        self._forget_at = self._clock.monotonic() + _FORGET_SECONDS
        for uid, position in self._waiting():
            self._stored[position.ino].remove((uid, position))
            self.forgotten.add(uid)
        for uid, (directory, ino) in list(self._let_go.items()):
            if not find_inodes(directory, {ino}):
                del self._let_go[uid]
                self.forgotten.add(uid)

    def _resume(self, uid: bytes, position: Position, place: str | None) -> bool:
        if place is None:
            return False
        try:
            fd, status = open_file(place)
        except OSError as error:
            self.refuse(place, error)
            return False
        identity = identity_of(status)
        if identity in self.files or not holds(fd, position):
            os.close(fd)
            return False
        self._follow_gone(File.restored(uid, position.path, identity, position, fd), place, fd)
        return True

    def _follow_gone(self, file: File, place: str, fd: int) -> None:
        """Read a file to its end that stands at `place`, where the globs do not look."""
        file.place = place
        file.gone = self._clock.monotonic()
        self._gone.add(file)
        self._follow(file, fd)

    # --- what there is to do -------------------------------------------------------------------------------

    def changed(self, paths: Iterable[str]) -> None:
        """These paths were written to, says a hint."""
        for path in paths:
            file = self._paths.get(path)
            if file is not None:
                self.ready[file] = None

    def look_at_gone(self, wait_seconds: float) -> None:
        """Read on in files that have no path any more; let go of those that nobody wrote to for so long."""
        now = self._clock.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + _LOOK_SECONDS
        for file in self._gone:
            if not file.last and now - (file.gone or 0) >= wait_seconds and self._at_end(file):
                file.last = True
            self.ready[file] = None

    def _at_end(self, file: File) -> bool:
        """Whether it did not grow since last looked at; a file that does has its time begin anew."""
        if file.fd is None:
            return True
        status = os.fstat(file.fd)
        stamp = (status.st_size, status.st_mtime_ns)
        if stamp == file.stamp:
            return True
        file.stamp, file.gone = stamp, self._clock.monotonic()
        return False

    def unread(self) -> int:
        """Bytes that the files had at the last scan and that are not read yet."""
        return sum(max(0, file.stamp[0] - file.mark.offset) for file in self.files.values())

    # --- descriptors ---------------------------------------------------------------------------------------

    def opened(self, file: File) -> bool:
        """See to it that the file is open; false if it is nowhere to be found."""
        if file.fd is None and not self._reopen(file):
            return False
        self._touch(file)
        return True

    def _reopen(self, file: File) -> bool:
        for place in (file.place, find_inodes(os.path.dirname(file.path), {file.ino}).get(file.ino)):
            if place is None:
                continue
            try:
                fd, status = open_file(place)
            except OSError as error:
                self.refuse(place, error)
                continue
            if identity_of(status) == file.identity:
                file.fd, file.place = fd, place
                return True
            os.close(fd)
        return False

    def _touch(self, file: File) -> None:
        self._open[file] = None
        self._open.move_to_end(file)
        while len(self._open) > self._max_open:
            self._open.popitem(last=False)[0].close()

    def release(self, file: File) -> None:
        """Follow this file no more; while it has a name its position is kept, so that it is never read again."""
        if file.is_somewhere():
            self._let_go[file.uid] = (os.path.dirname(file.path), file.ino)
        self._part_with(file)

    def _part_with(self, file: File) -> None:
        file.close()
        self._open.pop(file, None)
        self.ready.pop(file, None)
        self._gone.discard(file)
        if self.files.get(file.identity) is file:
            del self.files[file.identity]
        if self._paths.get(file.path) is file:
            del self._paths[file.path]

    def change(self, max_open: int, max_line: int) -> None:
        """Other limits, and perhaps other tags; everything is read on behind what is committed of it."""
        self._max_open, self._max_line = max_open, max_line
        self._refused.clear()
        for file in self.files.values():
            file.tag = None
        self.go_back()

    def leave(self, found: Container[str]) -> None:
        """Follow no more what is not among these paths; its position is kept, should it be there again.

        What was renamed or deleted, and so matched no glob before either, is still read to its end.
        """
        for file in [file for file in self.files.values() if file.gone is None and file.path not in found]:
            self._stored.setdefault(file.ino, []).append((file.uid, read_position(file.stored())))
            self._part_with(file)

    def go_back(self) -> None:
        """Every file to what is committed of it."""
        for file in self.files.values():
            file.go_back()
            self.ready[file] = None

    def close(self) -> None:
        """Close every file."""
        for file in self._open:
            file.close()
        self._open.clear()


def _stands(position: Position) -> bool:
    try:
        status = os.stat(position.path)
    except OSError as error:
        return not isinstance(error, FileNotFoundError)
    return identity_of(status) == (position.dev, position.ino)
