"""Columns that cost little."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mcp_ingest.codecs.columns import Coded, Late, Stamps, index_code, nanoseconds


@given(st.lists(st.sampled_from(["a", "b", "c", None]), max_size=30))
def test_a_coded_column_is_the_column(column: list[str | None]) -> None:
    """Whatever is asked of it, a coded column answers as the list it was made of."""
    coded = Coded.of(column)
    assert len(coded) == len(column)
    assert [*coded] == column
    assert coded == column
    assert [coded[place] for place in range(len(column))] == column
    assert coded[1:3] == column[1:3]
    assert (coded[-1] if column else None) == (column[-1] if column else None)
    assert repr(coded) == repr(column)


def test_many_values_take_wider_indices() -> None:
    """One byte for up to 256 values, two for up to 65,536."""
    assert [index_code(count) for count in (2, 256, 257, 65_536, 65_537)] == ["B", "B", "H", "H", "I"]
    column = [str(number) for number in range(300)]
    assert [*Coded.of(column)] == column


def test_a_late_column_is_made_once_and_only_if_asked() -> None:
    """Its length is known before; its values are made at the first look."""
    calls: list[int] = []

    def make() -> list[str]:
        calls.append(1)
        return ["x", "y"]

    column = Late(2, make)
    assert len(column) == 2
    assert not calls
    assert [*column] == column == ["x", "y"]
    assert (column[1], column[:1], repr(column)) == ("y", ["x"], "['x', 'y']")
    assert calls == [1]


def test_stamps_are_times() -> None:
    """Texts are read as nanoseconds; the span is known without reading them all."""
    stamps = Stamps(["2026-01-02T03:04:05.5Z", "2026-01-01T00:00:00Z", "2026-01-02T03:04:05.000000001Z"])
    first, last = stamps.span()
    assert [*stamps] == [last + 500_000_000, first, last + 1]
    assert first == nanoseconds("2026-01-01T00:00:00Z")


def test_other_forms_are_no_times() -> None:
    """Another zone, another separator, a day that is not there, letters in the fraction."""
    for text in ("2026-01-01T00:00:00", "2026-01-01 00:00:00Z", "2026-02-30T00:00:00Z", "2026-01-01T00:00:00.1xZ", ""):
        assert nanoseconds(text) is None
