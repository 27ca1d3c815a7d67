"""Asks for a reload when a file of the configuration changes, where `reload_on_change` says so.

The files are looked at every second, not by inotify: there are few, and a mounted ConfigMap, an editor that renames and
a network file system all look the same that way. What changed is reloaded once it has been quiet for a second.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from mcp_ingest.config.load import files_of
from mcp_ingest.engine.graph import Graph

LOOK_SECONDS = 1.0
#: Looks after which the list of files is made anew although nothing says that it changed.
LOOKS = 30

Marks = dict[Path, tuple[int, int, int]]


async def watch(graph: Graph, changed: Callable[[], None]) -> None:
    """Call `changed` whenever the files of the graph's configuration have changed, until cancelled."""
    watched = Watched(graph.config.given)
    taken: Marks | None = None
    last: Marks | None = None
    while True:
        if graph.config.reload_on_change:
            now = await asyncio.to_thread(watched.look)
            if taken is None:
                taken = now
            elif now != taken and now == last:
                taken = now
                changed()
            last = now
        else:
            taken = last = None
        await asyncio.sleep(LOOK_SECONDS)


class Watched:
    """The files of a configuration, found by reading it, which is done when something about them changed."""

    def __init__(self, given: str | None) -> None:
        self._given = given
        self._files: list[Path] = []
        self._all: Marks = {}
        self._looks = 0

    def look(self) -> Marks:
        """Every file with what changes when it does; blocks, for a moment."""
        if self._looks % LOOKS == 0 or _marks(self._all) != self._all:
            self._files, directories = files_of(self._given)
            self._all = _marks([*self._files, *directories])
        self._looks += 1
        return {path: self._all[path] for path in self._files}


def _marks(paths: Iterable[Path]) -> Marks:
    return {path: _mark(path) for path in paths}


def _mark(path: Path) -> tuple[int, int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return (0, 0, 0)
    return (status.st_ino, status.st_size, status.st_mtime_ns)
