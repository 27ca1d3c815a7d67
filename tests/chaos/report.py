"""The figures of a run, as they are printed and kept in docs/chaos.md."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.chaos.audit import Status
from tests.chaos.book import Comparison
from tests.chaos.faults import Fault
from tests.chaos.scene import Scene


class Recovery(NamedTuple):
    """Seconds from the end of a fault until new events are acknowledged, and until events are delivered."""

    acknowledges: float
    delivers: float


@dataclass
class Report:
    """What struck, how long the daemon took after it, and what became of the events; good without `problems`."""

    seed: int
    injected: Counter[str] = field(default_factory=Counter)
    recoveries: dict[str, list[Recovery]] = field(default_factory=lambda: defaultdict(list))
    skipped: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    compared: Comparison = field(default_factory=Comparison)
    sent: list[str] = field(default_factory=list)
    ledger: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def note(self, fault: Fault, recovery: Recovery | None) -> None:
        """It struck; how long the daemon took after it, if that was awaited."""
        self.injected[fault.name] += 1
        if recovery is not None:
            self.recoveries[fault.name].append(recovery)

    def describe(self, scene: Scene, status: Status | None) -> None:
        """What the load and the ledger say in the end."""
        forward = scene.forward
        self.sent = [
            f"sent {scene.book.sent():,}, acknowledged {scene.book.acknowledged():,}",
            f"forward: {len(forward.made):,} chunks, {forward.sent_again:,} sent again",
            *(f"{each.name} file: {each.lines:,} lines, {each.rotations:,} rotations" for each in scene.tailed),
            f"the daemon had {scene.daemon.lives:,} lives",
        ]
        for way in ("inputs", "outputs") if status else ():
            counts: Counter[str] = Counter()
            for row in (status or {})["ledger"][way]:
                counts[row["term"]] += row["count"]
            self.ledger.append(f"ledger, {way}: " + ", ".join(f"{term} {count:,}" for term, count in counts.items()))

    def lines(self) -> list[str]:
        """All of it."""
        shown = [f"seed {self.seed}, {self.seconds:.0f} s", ""]
        shown.append(f"{'':<32}   acknowledges again after  delivers again after")
        shown.append(f"{'fault':<24} {'struck':>7}   median, longest           median, longest")
        for name, count in sorted(self.injected.items()):
            waited = self.recoveries.get(name, [])
            after = [_spread([each[place] for each in waited]) for place in range(2)] if waited else []
            shown.append(f"{name:<24} {count:>7}   {'        '.join(after)}".rstrip())
        for why in sorted(set(self.skipped.values())):
            names = ", ".join(name for name, reason in sorted(self.skipped.items()) if reason == why)
            shown.append(f"skipped, {why}: {names}")
        compared = self.compared
        shown += ["", *self.sent, *self.ledger]
        shown.append(f"stored {compared.stored:,}, lost {compared.lost:,}, doubled {compared.doubled:,}")
        return shown + [f"WRONG: {problem}" for problem in self.problems]


def _spread(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):6.1f} s {max(seconds):7.1f} s"
