"""Notices a delivery that makes no progress, whatever the reason. Pure: times are monotonic seconds."""

from __future__ import annotations

#: Deadlines without progress after which a delivery counts as stalled.
DEADLINES = 3


class Stalled(Exception):  # noqa: N818  what happened, for the log
    """A delivery makes no progress, and nothing explains it."""


class Watchdog:
    """Watches the requests of one output, each of which should end within `deadline` seconds."""

    def __init__(self, deadline: float, now: float) -> None:
        self.patience = DEADLINES * deadline
        self._moved = now
        self._under_way: dict[int, float] = {}  # when they began
        self._count = 0

    def begun(self, now: float) -> int:
        """A request begins; its number."""
        self._count += 1
        self._under_way[self._count] = now
        return self._count

    def ended(self, number: int) -> None:
        """It was answered, or given up."""
        self._under_way.pop(number, None)

    def moved(self, now: float) -> None:
        """Something was settled or tried, or there is a reason to wait."""
        self._moved = now

    def stalled(self, now: float) -> str | None:
        """What is wrong, None if nothing is."""
        oldest = min(self._under_way.values(), default=now)
        if now - oldest > self.patience:
            return f"a request has not ended for {now - oldest:.0f} s"
        if now - self._moved > self.patience:
            return f"nothing was sent for {now - self._moved:.0f} s though events wait"
        return None
