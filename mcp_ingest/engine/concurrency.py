"""How many requests an output may have in flight: fewer while its peer is busy, more while it is not. Pure.

The model is Vector's adaptive request concurrency (additive increase, multiplicative decrease): the limit grows by
one while latency stays near its own running mean, and is halved when the peer says that it has too much (429, 503)
or latency grows. The mean is kept for each size of request by itself: a large body takes longer than a small one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

#: How much of the running mean each answer replaces.
_WEIGHT = 0.2
#: Times the running mean: up to the first the limit grows, beyond the second it is halved.
_NEAR, _GROWN = 1.25, 2.0
#: Seconds below which no latency is a sign of trouble: what is that fast varies by chance.
_FAST = 0.1
#: Answers on which a decision rests at the least.
_WINDOW = 4


@dataclass(slots=True)
class _Window:
    """The answers since the last decision."""

    answers: int = 0
    ratios: float = 0.0  # sum of latencies in running means
    seconds: float = 0.0
    reached: bool = False  # as many were in flight as might be


@dataclass(slots=True)
class Concurrency:
    """The present `limit`, between 1 and `most`; with `by_latency` False only what the peer says changes it."""

    most: int
    by_latency: bool = True
    limit: int = field(init=False)
    _era: int = 0  # counts the decreases: a request that began before the last one says nothing new
    _usual: dict[int, float] = field(default_factory=dict)  # running means in seconds, by size class
    _window: _Window = field(default_factory=_Window)

    def __post_init__(self) -> None:
        self.limit = self.most

    def begun(self, in_flight: int) -> int:
        """A request begins, the `in_flight`-th now; its era, for `answered` and `overloaded`."""
        if in_flight >= self.limit:
            self._window.reached = True
        return self._era

    def answered(self, era: int, seconds: float, size: int) -> None:
        """A request of `size` bytes was answered after so many seconds, and not for being too much."""
        if self.most == 1:
            return
        window, kind = self._window, size.bit_length() // 2
        usual = self._usual.get(kind, seconds)
        self._usual[kind] = usual + (seconds - usual) * _WEIGHT
        if era != self._era:
            return
        window.answers += 1
        window.seconds += seconds
        window.ratios += seconds / usual if usual > 0 else 1.0
        if window.answers >= max(self.limit, _WINDOW):
            self._decide(window)

    def overloaded(self, era: int) -> None:
        """The peer refused a request for being one too many; refusals of one burst halve once."""
        if era == self._era:
            self._halve()

    def _decide(self, window: _Window) -> None:
        ratio, seconds = window.ratios / window.answers, window.seconds / window.answers
        if self.by_latency and ratio > _GROWN and seconds > _FAST:
            self._halve()
            return
        if window.reached and (ratio <= _NEAR or seconds <= _FAST or not self.by_latency):
            self.limit = min(self.most, self.limit + 1)
        self._window = _Window()

    def _halve(self) -> None:
        self.limit = max(1, self.limit // 2)
        self._era += 1
        self._window = _Window()
