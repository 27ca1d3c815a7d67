"""What has to be let go when a bound is passed: values and pure decisions, over what is committed.

Bounds are three: the bytes that one output may owe (`max_backlog`, or `max_removed_backlog` for one that the
configuration has no more), the spool's `max_bytes`, and the disk. Once one is reached, what is let go brings it a
sixteenth below, so that it is not done chunk by chunk.

The order, when space is short: chunks that only removed and `best_effort` outputs owe; then, with `drop_oldest`, those
that nobody owes but outputs that are behind by a sixteenth of what there is, and so fill it; then those of all. In each
of the three the oldest normal chunk, and when there is none the oldest with errors. For an output's own bound it is the
same among what it owes. A chunk of which a delivery loop holds events stays: they may be with its peer
already, and no event may count as dropped and as delivered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mcp_ingest.spool.model import SpoolSettings
from mcp_ingest.spool.truth import OutputState, Truth

#: Reasons of the ledger's `dropped` at an output.
BEST_EFFORT, OVER_BUDGET, DROP_OLDEST = "best_effort", "over_budget", "drop_oldest"
REMOVED, BY_HAND = "removed_output", "by_hand"

#: Bytes and chunks that one transaction lets go of at the most: commits go on between two of them.
SLICE_BYTES, SLICE_CHUNKS = 32 * 2**20, 512
LOW_WATER = 15 / 16  # of the bound


@dataclass(frozen=True, slots=True)
class Bound:
    """What the configuration says of an output: whether its events may be let go, and how many bytes it may owe."""

    best_effort: bool = False
    max_backlog: int | None = None


@dataclass(frozen=True, slots=True)
class InHand:
    """Chunks of which a delivery loop holds events: those above `after` up to `upto`, and `others`."""

    after: int = 0
    upto: int = 0
    others: frozenset[int] = frozenset()

    def __contains__(self, number: int) -> bool:
        return self.after < number <= self.upto or number in self.others


class Cut(NamedTuple):
    """What is to be let go: `size` bytes of the oldest that the outputs of the first tier owe, then of the next.

    A tier has the reason for the ledger by the output's id. `frees`: only chunks that nobody else owes, so that the
    spool gets smaller by it.
    """

    tiers: Sequence[Mapping[int, str]]
    size: int
    frees: bool


@dataclass(frozen=True, slots=True)
class Drop:
    """A slice of a cut, as the spool's thread carries it out; `in_hand` by the output's id."""

    cut: Cut
    in_hand: Mapping[int, InHand]


class Part(NamedTuple):
    """Events of an output that were let go: one reason, one priority, the commit times of the oldest and newest."""

    output: str
    reason: str
    priority: int
    events: int
    oldest: int
    newest: int


@dataclass(slots=True)
class Dropped:
    """What was let go: bytes of chunks, events in their parts, and the numbers of the chunks by the output's name.

    `kept` are chunks that would have gone had a delivery loop not had them in hand, by its output's name.
    """

    size: int = 0
    parts: list[Part] = field(default_factory=list)
    chunks: dict[str, set[int]] = field(default_factory=dict)
    kept: dict[str, set[int]] = field(default_factory=dict)

    @property
    def events(self) -> int:
        """All events."""
        return sum(part.events for part in self.parts)


def bounding(bounds: Mapping[str, Bound]) -> dict[str, Bound]:
    """Those that bound something."""
    return {name: bound for name, bound in bounds.items() if bound != Bound()}


def cuts(truth: Truth, settings: SpoolSettings, bounds: Mapping[str, Bound], disk_wants: int) -> list[Cut]:
    """All that may be let go because something is over a bound.

    `disk_wants` are the bytes that the disk is short of, 0 where it has room.
    """
    found = _over_budget(truth, settings, bounds)
    size = max(_above(truth.space.used, settings.max_bytes), disk_wants)
    tiers = _expendable(truth, settings, bounds) if size else []
    return [*found, Cut(tiers, size, frees=True)] if tiers else found


def why_full(truth: Truth, settings: SpoolSettings, bounds: Mapping[str, Bound]) -> str | None:
    """Why nothing more may be committed: the spool is at its limit, or an output of which nothing may be let go."""
    if truth.space.used >= settings.max_bytes:
        return "the spool is full"
    for name, bound in bounds.items() if settings.when_full != "drop_oldest" else ():
        if not bound.best_effort and bound.max_backlog is not None and truth.output(name).bytes > bound.max_backlog:
            return f"the spool is full for output {name} (max_backlog)"
    return None


def _above(used: int, bound: int) -> int:
    """The bytes from `used` down to a sixteenth below the bound; 0 where it is not reached."""
    return used - int(bound * LOW_WATER) if used >= bound else 0


def _over_budget(truth: Truth, settings: SpoolSettings, bounds: Mapping[str, Bound]) -> list[Cut]:
    found = []
    for state in truth.outputs.values():
        limit, reason = _limit(truth, state, settings, bounds)
        if limit is not None and state.bytes > limit:
            found.append(Cut([{state.id: reason}], _above(state.bytes, limit), frees=False))
    return found


def _limit(
    truth: Truth, state: OutputState, settings: SpoolSettings, bounds: Mapping[str, Bound]
) -> tuple[int | None, str]:
    """The bytes above which the output's oldest go (None: they never do), and the reason."""
    if is_removed(truth, state):
        return settings.max_removed_backlog, REMOVED
    bound = bounds.get(state.name, Bound())
    may = bound.best_effort or settings.when_full == "drop_oldest"
    return (bound.max_backlog if may else None), OVER_BUDGET


def _expendable(truth: Truth, settings: SpoolSettings, bounds: Mapping[str, Bound]) -> list[Mapping[int, str]]:
    """The tiers of outputs whose events may go where space is short; none where nobody's may."""
    spare: dict[int, str] = {}
    behind: dict[int, str] = {}
    others: dict[int, str] = {}
    for state in truth.outputs.values():
        if not state.bytes:
            continue
        if is_removed(truth, state):
            spare[state.id] = REMOVED
        elif bounds.get(state.name, Bound()).best_effort:
            spare[state.id] = BEST_EFFORT
        elif state.bytes > truth.space.used * (1 - LOW_WATER):
            behind[state.id] = DROP_OLDEST
        else:
            others[state.id] = DROP_OLDEST
    tiers: list[Mapping[int, str]] = [spare] if spare else []
    if settings.when_full == "drop_oldest":
        tiers += [{**spare, **behind}] if behind else []
        tiers += [{**spare, **behind, **others}] if others else []
    return tiers


def is_removed(truth: Truth, state: OutputState) -> bool:
    """Whether the configuration has no such output any more."""
    return truth.ids.get(state.name) != state.id
