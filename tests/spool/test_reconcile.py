"""What is reckoned as lost, case by case."""

from __future__ import annotations

from collections import Counter

import pytest

from mcp_ingest.engine.status import sums as closed_sums
from mcp_ingest.event import Term
from mcp_ingest.spool.model import InputKey, Ledger, LetterKey, OutputKey
from mcp_ingest.spool.reconcile import Found, corrections
from mcp_ingest.spool.sums import summed


def out(assigned: int, delivered: int) -> Ledger:
    return Counter({OutputKey("es", Term.ASSIGNED): assigned, OutputKey("es", Term.DELIVERED): delivered})


CASES: dict[str, tuple[Ledger, Ledger, Found, bool, int, int]] = {
    # the database's ledger, the sums, what is there, intact; lost, again
    "nothing happened": (out(10, 4), out(10, 4), Found(6, 6, 0), True, 0, 0),
    "commits with events": (out(10, 4), out(15, 4), Found(6, 6, 0), True, 5, 0),
    "a settlement alone": (out(10, 4), out(10, 7), Found(6, 3, 0), True, 0, 3),
    "events that were settled, too": (out(10, 4), out(20, 20), Found(6, 0, 0), True, 0, 6),
    "some of them settled": (out(10, 4), out(20, 17), Found(6, 0, 0), True, 3, 6),
    "parked ones that are still there": (out(10, 4), out(20, 14), Found(6, 0, 6), True, 0, 0),
    "damaged: chunks are missing": (out(10, 4), out(10, 4), Found(2, 2, 0), False, 4, 0),
    "damaged: no counters": (Counter(), out(10, 4), Found(6, 6, 0), False, 0, 0),
    "damaged: marks are lost": (Counter(), out(10, 4), Found(9, 5, 0), False, 1, 4),
    "damaged: nothing is known": (Counter(), Counter(), Found(6, 6, 0), False, 0, 6),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_lost(case: str) -> None:
    """Lost is what should be there and is not, again what was settled and is there; the sums close."""
    ledger, known, found, intact, lost, again = CASES[case]
    made = corrections(ledger, summed(known), {"es": found}, 0, "why", intact=intact)
    assert made[OutputKey("es", Term.LOST, "why")] == lost
    assert made[OutputKey("es", Term.REPLAYED, "why")] == again
    closed = closed_sums(ledger + made, {"es": found.held}, 0)
    assert all(each["closed"] for each in closed), closed


def test_the_way_in_goes_forward() -> None:
    """Counters of inputs become those of the sums, their difference under the reason."""
    before: Ledger = Counter({InputKey("f", "", Term.RECEIVED): 3, InputKey("f", "p", Term.FILTERED, "rule"): 3})
    after: Ledger = Counter({InputKey("f", "", Term.RECEIVED): 5, InputKey("f", "p", Term.FILTERED, "rule"): 5})
    made = corrections(before, summed(after), {}, 0, "why", intact=True)
    assert made == {InputKey("f", "", Term.RECEIVED, "why"): 2, InputKey("f", "p", Term.FILTERED, "why"): 2}


def test_an_input_of_which_counters_are_gone_begins_anew() -> None:
    """Without sums an input whose terms do not close any more is counted from nought; the others stay."""
    ledger: Ledger = Counter({
        InputKey("f", "", Term.RECEIVED): 3,
        InputKey("g", "", Term.RECEIVED): 3, InputKey("g", "p", Term.ACCEPTED): 3,
    })  # fmt: skip
    made = corrections(ledger, {}, {}, 0, "why")
    ledger.update(made)
    assert +ledger == {InputKey("g", "", Term.RECEIVED): 3, InputKey("g", "p", Term.ACCEPTED): 3}


@pytest.mark.parametrize(
    ("died", "gone", "kept", "lost", "again"), [(5, 0, 5, 0, 0), (5, 0, 3, 2, 0), (7, 2, 5, 2, 2), (5, 3, 5, 0, 3)]
)
def test_letters(died: int, gone: int, kept: int, lost: int, again: int) -> None:
    """Letters that are missing are lost; those that left in forgotten commits are counted anew."""
    before: Ledger = Counter({LetterKey(Term.DEAD_LETTERED): 5})
    after: Ledger = Counter({LetterKey(Term.DEAD_LETTERED): died, LetterKey(Term.EXPIRED): gone})
    made = corrections(before, summed(after), {}, kept, "why", intact=True)
    assert made[LetterKey(Term.LOST, "why")] == lost
    assert made[LetterKey(Term.DEAD_LETTERED, "why")] == died - 5 + again
    assert all(each["closed"] for each in closed_sums(before + made, {}, kept))
