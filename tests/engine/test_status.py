"""What `status` shows."""

from __future__ import annotations

from collections import Counter

from mcp_ingest.engine.status import Rates, ledger_rows, owed, sums
from mcp_ingest.event import Term
from mcp_ingest.spool.model import Held, InputKey, Ledger, LetterKey, OutputKey


def test_the_three_sums() -> None:
    """Each input, each output and the dead letters have a sum, closed or not."""
    ledger: Ledger = Counter(
        {
            InputKey("f", "p", Term.RECEIVED): 10,
            InputKey("f", "p", Term.ACCEPTED): 7,
            InputKey("f", "p", Term.FILTERED, "drop"): 2,
            InputKey("f", "p", Term.DEAD_LETTERED, "stage"): 1,
            OutputKey("o", Term.ASSIGNED): 7,
            OutputKey("o", Term.DELIVERED): 4,
            LetterKey(Term.DEAD_LETTERED, "stage"): 1,
        }
    )
    found = {row["sum"]: row for row in sums(ledger, {"o": 2}, kept=1)}
    assert found["way in: f"]["closed"]
    assert found["dead letters"]["closed"]
    assert found["output: o"] == {"sum": "output: o", "left": 7, "right": 6, "closed": False}


def test_ledger_rows_name_their_columns() -> None:
    """The ledger becomes rows with names, grouped by sum."""
    rows = ledger_rows(Counter({OutputKey("o", Term.DELIVERED): 4}))
    assert rows["outputs"] == [{"output": "o", "term": "delivered", "reason": "", "count": 4}]


def test_a_rate_is_events_by_seconds() -> None:
    """A rate is what came since the oldest sample, by the time that passed."""
    rates = Rates()
    rates.sample(100.0, Counter(a=1000))
    assert rates.rate("a", 110.0, 1500) == 50.0


def test_the_backlog_of_a_removed_output_closes_its_sum() -> None:
    """What is owed to an output that is gone, or now of another type, counts under its name, as the ledger does."""
    removed = {"old (file)": Held(2, None), "now (store)": Held(1, None)}
    assert owed({"now": Held(4, None)}, removed) == {"old": 2, "now": 5}
