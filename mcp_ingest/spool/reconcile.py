"""What is lost, reckoned from sums: the ledger is made to close again after the database forgot or lost something.

Of an output are known what was ever given to it and what was settled (the sums), and what the database still holds for
it. What it should hold and does not is `lost`. What was settled by commits that the database forgot is held again and
will be sent again: that is `replayed`; it stands in the sums twice, on both sides.

Which part of what is held was settled is known by the mark that the output had last: before it, only what is pending
was owed. Pending rows that cannot be read any more are taken for lost although their events may have been found, so
that `lost` is rather too high than too low.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Set
from typing import NamedTuple

from mcp_ingest.event import Term
from mcp_ingest.spool.model import InputKey, Ledger, LetterKey, OutputKey
from mcp_ingest.spool.sums import Sum, counter_of, summed

_GIVEN = {"input": (Term.RECEIVED, Term.GENERATED), "output": (Term.ASSIGNED, Term.REPLAYED),
          "letters": (Term.DEAD_LETTERED,)}  # fmt: skip


class Found(NamedTuple):
    """Events that are there for an output: all of them, those behind its last mark, those pending before it."""

    held: int
    fresh: int
    pending: int


def corrections(
    ledger: Ledger, known: Mapping[Sum, int], held: Mapping[str, Found], kept: int, reason: str, *, intact: bool = False
) -> Ledger:
    """What is to be added to the ledger, under this reason, so that its three sums close.

    `known` are the sums as they were last (those of the file beside the database, or nothing), `held` the events that
    are there for each output, `kept` the dead letters. `intact`: the database is that of an earlier commit, with
    nothing missing from it; otherwise what was there before may be gone, too, and counters with it.
    """
    before = summed(ledger)
    made: Ledger = Counter()
    for each, count in known.items():
        if count > before[each]:
            made[counter_of(each, reason)] += count - before[each]
    after = before + summed(made)
    for name in {each.name for each in after if each.scope == "output"} | set(held):
        lost, again = _missing_at(name, held.get(name, Found(0, 0, 0)), before, after, intact)
        made[OutputKey(name, Term.LOST, reason)] += lost
        made[OutputKey(name, Term.REPLAYED, reason)] += again
    lost, again = _missing_letters(kept, before, after, intact)
    made[LetterKey(Term.LOST, reason)] += lost
    made[LetterKey(Term.DEAD_LETTERED, reason)] += again
    if not intact:
        made.update(_begun_anew(ledger, made, after, {each.name for each in known if each.scope == "input"}))
    return +made if intact else made


def owed_by(ledger: Ledger) -> Counter[str]:
    """The events that each output should hold, by its name."""
    owed: Counter[str] = Counter()
    for each, count in summed(ledger).items():
        if each.scope == "output":
            owed[each.name] += count if each.term in _GIVEN["output"] else -count
    return owed


def _missing_at(name: str, found: Found, before: Counter[Sum], after: Counter[Sum], intact: bool) -> tuple[int, int]:
    """How many events of an output are lost, and how many are there once more though they were settled."""
    given, settled = _sides(after, "output", name)
    owed = given - settled
    lost = max(0, owed - found.fresh - found.pending)
    if intact:  # only what was given to it since can be gone
        lost = min(lost, given - _sides(before, "output", name)[0])
    lost = max(lost, owed - found.held)
    return lost, lost + found.held - owed


def _missing_letters(kept: int, before: Counter[Sum], after: Counter[Sum], intact: bool) -> tuple[int, int]:
    """The same of dead letters; those that left in forgotten commits are the oldest, and there again."""
    given, gone = _sides(after, "letters", "")
    left = gone - _sides(before, "letters", "")[1] if intact else 0
    lost = max(0, given - gone - kept + min(left, kept))
    return lost, lost + kept - (given - gone)


def _sides(counts: Counter[Sum], scope: str, name: str) -> tuple[int, int]:
    """What was given to it, and what became of that."""
    given = settled = 0
    for each, count in counts.items():
        if each.scope == scope and each.name == name:
            if each.term in _GIVEN[scope]:
                given += count
            else:
                settled += count
    return given, settled


def _begun_anew(ledger: Ledger, made: Ledger, after: Counter[Sum], known: Set[str]) -> Ledger:
    """Inputs of which counters are missing and nobody knows them: theirs are taken away and begin anew."""
    names = {each.name for each in after if each.scope == "input"} - known
    open_ones = {name for name in names if len(set(_sides(after, "input", name))) == 2}
    gone: Ledger = Counter()
    for counts in (ledger, made):
        for key, count in counts.items():
            if isinstance(key, InputKey) and key.input in open_ones:
                gone[key] -= count
    return gone
