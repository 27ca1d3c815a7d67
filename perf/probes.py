"""Probes: functions of the daemon that note the CPU that they take, each its own without that of those inside.

A probe takes a function's place in its module or class until the block ends. What it notes is CPU time of the calling
thread (`time.thread_time_ns`), so that waiting, for the disk or for another thread, is not in it. Two looks at that
clock take about a microsecond: nothing for a batch of a thousand events, too much for a batch of one.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

#: What a probe is called, or a function that tells it from the call's arguments.
Name = str | Callable[..., str]
#: A module or class, the function in it, the name.
Place = tuple[Any, str, Name]


class Probes:
    """What was spent, in nanoseconds by name, in the order in which the names were first met."""

    def __init__(self) -> None:
        self.spent: dict[str, int] = {}
        self._inside = threading.local()  # `spent`: what probes took inside of the one that is under way
        self._lock = threading.Lock()

    def timed(self, name: Name, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, with a probe."""

        @functools.wraps(function)
        def probe(*arguments: Any, **named: Any) -> Any:
            called = name if isinstance(name, str) else name(*arguments)
            self._add(called, 0)
            outside = getattr(self._inside, "spent", 0)
            self._inside.spent = 0
            began = time.thread_time_ns()
            try:
                return function(*arguments, **named)
            finally:
                took = time.thread_time_ns() - began
                self._add(called, took - self._inside.spent)
                self._inside.spent = outside + took

        return probe

    @contextlib.contextmanager
    def at(self, places: Iterable[Place]) -> Iterator[None]:
        """These functions with probes, until the block ends."""
        originals = [(owner, attribute, getattr(owner, attribute), name) for owner, attribute, name in places]
        try:
            for owner, attribute, function, name in originals:
                setattr(owner, attribute, self.timed(name, function))
            yield
        finally:
            for owner, attribute, function, _ in originals:
                setattr(owner, attribute, function)

    def reset(self) -> None:
        """Nothing was spent so far; the names keep their order."""
        with self._lock:
            self.spent = dict.fromkeys(self.spent, 0)

    def _add(self, name: str, nanoseconds: int) -> None:
        with self._lock:
            self.spent[name] = self.spent.get(name, 0) + nanoseconds
