"""The figures of a run, as they are printed and kept in docs/chaos.md."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from tests.chaos.audit import Status
from tests.chaos.book import Comparison
from tests.chaos.faults import Fault
from tests.chaos.scene import Scene


@dataclass
class Report:
    """What struck, how long the daemon took after it, and what became of the events; good without `problems`."""

    seed: int
    injected: Counter[str] = field(default_factory=Counter)
    recoveries: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    skipped: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    compared: Comparison = field(default_factory=Comparison)
    sent: list[str] = field(default_factory=list)
    ledger: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def note(self, fault: Fault, recovery: float | None) -> None:
        """It struck; `recovery` are the seconds until events were taken and delivered again, if that was awaited."""
        self.injected[fault.name] += 1
        if recovery is not None:
            self.recoveries[fault.name].append(recovery)

    def describe(self, scene: Scene, status: Status | None) -> None:
        """What the load and the ledger say in the end."""
        forward = scene.forward
        self.sent = [
            f"sent {scene.book.sent():,}, acknowledged {scene.book.acknowledged():,}",
            f"forward: {forward.chunks:,} chunks, {forward.sent_again:,} sent again",
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
        shown.append(f"{'fault':<24} {'struck':>7}   delivers again after: median, longest")
        for name, count in sorted(self.injected.items()):
            waited = self.recoveries.get(name, [])
            after = f"{statistics.median(waited):9.1f} s {max(waited):7.1f} s" if waited else ""
            shown.append(f"{name:<24} {count:>7}   {after}".rstrip())
        shown += [f"{name:<24} skipped: {why}" for name, why in sorted(self.skipped.items())]
        compared = self.compared
        shown += ["", *self.sent, *self.ledger]
        shown.append(f"stored {compared.stored:,}, lost {compared.lost:,}, doubled {compared.doubled:,}")
        return shown + [f"WRONG: {problem}" for problem in self.problems]
