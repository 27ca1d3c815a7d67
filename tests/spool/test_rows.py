"""Tests of values as rows."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from mcp_ingest.event import Term
from mcp_ingest.spool.model import InputKey, Ledger, LetterKey, OutputKey
from mcp_ingest.spool.rows import bitmap, indices_of, ledger_from, ledger_rows


def test_a_ledger_comes_back_from_its_rows() -> None:
    """Counters of all three sums survive the way into rows and back; zeros are not written."""
    ledger: Ledger = Counter(
        {
            InputKey("forward", "mcp", Term.FILTERED, "drop"): 3,
            OutputKey("archive", Term.DELIVERED): 2**40,
            LetterKey(Term.EXPIRED, "age"): 1,
        }
    )
    assert ledger_from(ledger_rows(ledger + Counter())) == ledger
    assert list(ledger_rows(Counter({LetterKey(Term.LOST): 0}))) == []


@given(st.sets(st.integers(0, 5000)))
def test_indices_come_back_from_their_bitmap(indices: set[int]) -> None:
    """Any indices survive the way into a bitmap and back, in order."""
    assert indices_of(bitmap(list(indices))) == sorted(indices)
