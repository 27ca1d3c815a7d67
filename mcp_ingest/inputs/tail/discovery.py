"""Which files the globs match, and hints of the kernel that something changed.

The scan is what counts; a hint (inotify, Linux only) only makes it or a read come sooner. So an overflow of the
kernel's queue, a directory that cannot be watched, a network file system: all cost time and never a line.
"""

from __future__ import annotations

import asyncio
import contextlib
import glob
import os
import re
import stat
import struct
import sys
from collections.abc import Container, Iterable, Iterator, Sequence
from fnmatch import translate
from typing import Any, NamedTuple

if sys.platform == "linux":
    from asyncinotify import Inotify, Mask

    _WATCHED = Mask.MODIFY | Mask.CREATE | Mask.DELETE | Mask.MOVE | Mask.MOVE_SELF | Mask.ONLYDIR
    _MODIFY, _OVER = int(Mask.MODIFY), int(Mask.IGNORED | Mask.MOVE_SELF)  # plain numbers: flags are slow

_EVENT = struct.Struct("iIII")  # wd, mask, cookie, length of the name: inotify(7)
_READ_BYTES = 64 * 1024
_DATE = re.compile(r"[\d.T_-]+\Z")
_SEPARATOR = re.compile(r"[.-](?=\d)")


class Found(NamedTuple):
    """What a scan saw: regular files with their status, and the directories in which more may turn up."""

    files: dict[str, os.stat_result]
    directories: set[str]


class Globs:
    """The patterns of `paths` less those of `exclude`; one without a slash is compared with the file's name."""

    def __init__(self, paths: Sequence[str], exclude: Sequence[str] = ()) -> None:
        self._patterns = [os.path.abspath(os.path.expanduser(path)) for path in paths]
        names = [pattern for pattern in exclude if "/" not in pattern]
        wholes = [os.path.abspath(os.path.expanduser(pattern)) for pattern in exclude if "/" in pattern]
        self._names = _any_of(names)
        self._wholes = _any_of(wholes)

    def find(self) -> Found:
        """Look at the file system: blocks, so it is called in a thread."""
        files: dict[str, os.stat_result] = {}
        directories: set[str] = set()
        for pattern in self._patterns:
            for path in glob.iglob(pattern, recursive=True):
                if path in files or self._excluded(path):
                    continue
                try:
                    status = os.stat(path)
                except OSError:  # it went away since
                    continue
                if stat.S_ISREG(status.st_mode):
                    files[path] = status
            directories |= _directories(pattern)
        return Found(files, directories)

    def _excluded(self, path: str) -> bool:
        if self._names is not None and self._names.match(path.rpartition("/")[2]):
            return True
        return self._wholes is not None and self._wholes.match(path) is not None


def _any_of(patterns: list[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(translate, patterns))) if patterns else None


def _directories(pattern: str) -> set[str]:
    """Where a file that matches may turn up: its directories, and the one above the first wildcard."""
    parent = os.path.dirname(pattern)
    while glob.has_magic(parent):
        parent = os.path.dirname(parent)
    parents = glob.iglob(os.path.join(os.path.dirname(pattern), ""), recursive=True)
    return {d for d in ({parent} | {os.path.dirname(p) for p in parents}) if os.path.isdir(d)}


def find_inodes(directory: str, wanted: set[int]) -> dict[int, str]:
    """Where in the directory the files with these inodes stand now, whatever their names."""
    try:
        with os.scandir(directory) as entries:
            return {e.inode(): e.path for e in entries if e.inode() in wanted and e.is_file(follow_symlinks=False)}
    except OSError:
        return {}


def rotated(directory: str, names: Container[str]) -> dict[str, list[tuple[str, os.stat_result]]]:
    """By name, the regular files beside it that rotation may have named after it (`app.log.1`, `app.log-20261122`).

    All names at once: to look through the directory for each took 20 s where there were 10,000.
    """
    found: dict[str, list[tuple[str, os.stat_result]]] = {}
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            stems = [stem for stem in _stems(entry.name) if stem in names]
            if not stems or not entry.is_file(follow_symlinks=False):
                continue
            with contextlib.suppress(OSError):  # it went away since
                status = entry.stat()
                for stem in stems:
                    found.setdefault(stem, []).append((entry.path, status))
    return found


def _stems(name: str) -> Iterator[str]:
    """From which names rotation may have made this one: by a dot or hyphen, a digit, and what dates consist of."""
    end = _DATE.search(name)
    for separator in _SEPARATOR.finditer(name, end.start() if end else len(name)):
        yield name[: separator.start()]


class Hints:
    """Paths that changed, as the kernel says: `changed` since last asked, `names` true when names came or went.

    `complete` is false where some directory cannot be watched: then the scan must come often.
    """

    def __init__(self) -> None:
        self._woken = asyncio.Event()
        self._watched: dict[str, int] = {}
        self._paths: dict[int, str] = {}
        self._inotify: Any = None
        self.complete = False
        self.names = False
        if sys.platform == "linux":
            with contextlib.suppress(OSError):  # no more instances for this user
                self._inotify = Inotify()
                os.set_blocking(self._inotify.fd, False)
                self._listen()

    def watch(self, directories: Iterable[str]) -> None:
        """Watch these directories from now on; others that are gone drop out by themselves."""
        if self._inotify is None:
            return
        self.complete = True
        if sys.platform == "linux":
            for directory in set(directories) - self._watched.keys():
                try:
                    watch = self._inotify.add_watch(directory, _WATCHED)
                except OSError:
                    self.complete = False
                else:
                    self._watched[directory] = watch.wd
                    self._paths[watch.wd] = directory
                    self.names = True  # something may have come before the watch: look again

    async def wait(self, seconds: float) -> None:
        """Return at the first hint, or after so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()

    def wake(self) -> None:
        """End a wait."""
        self._woken.set()

    def changed(self) -> set[str]:
        """The paths that were written to since the last call."""
        paths: set[str] = set()
        if self._inotify is None:
            self._woken.clear()
            return paths
        with contextlib.suppress(BlockingIOError):
            while True:
                self._parse(os.read(self._inotify.fd, _READ_BYTES), paths)
        if self._woken.is_set():
            self._woken.clear()
            self._listen()
        return paths

    def close(self) -> None:
        """Give the watches back."""
        if self._inotify is not None:
            asyncio.get_running_loop().remove_reader(self._inotify.fd)
            self._inotify.close()
            self._inotify = None

    def _listen(self) -> None:
        asyncio.get_running_loop().add_reader(self._inotify.fd, self._readable)

    def _readable(self) -> None:
        """Ask no more until the events are taken: equal ones run together in the kernel's queue meanwhile."""
        asyncio.get_running_loop().remove_reader(self._inotify.fd)
        self._woken.set()

    def _parse(self, data: bytes, paths: set[str]) -> None:
        offset = 0
        while offset < len(data):
            watch, mask, _, length = _EVENT.unpack_from(data, offset)
            name = data[offset + 16 : offset + 16 + length].rstrip(b"\0")
            offset += 16 + length
            if mask & _OVER:  # the directory went away or elsewhere; what has its name now is watched anew
                self._watched.pop(self._paths.pop(watch, ""), None)
                self.names = True
            elif mask == _MODIFY:
                if watch in self._paths:
                    paths.add(f"{self._paths[watch]}/{os.fsdecode(name)}")
            else:
                self.names = True
