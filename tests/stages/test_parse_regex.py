"""Expressions take fields out of a text, and no input makes them slow."""

from __future__ import annotations

import time

import pytest

from tests.stages._apply import batch, check, one, stage


def test_the_first_pattern_that_fits_is_taken() -> None:
    """Patterns are tried in order."""
    patterns = [r"(?P<a>\d+)", r"(?P<b>.+)"]
    assert one("parse_regex", {"message": "12"}, patterns=patterns) == {"a": "12"}
    assert one("parse_regex", {"message": "x"}, patterns=patterns) == {"b": "x"}


def test_the_whole_text_must_fit() -> None:
    """A pattern that fits a part only does not fit."""
    assert one("parse_regex", {"message": "12 x"}, pattern=r"(?P<a>\d+)") == {"message": "12 x"}


def test_a_group_that_took_no_part_sets_no_field() -> None:
    """An optional group that is not there leaves the field as it is."""
    assert one("parse_regex", {"message": "1", "b": 0}, pattern=r"(?P<a>\d)(?: (?P<b>\d))?") == {"a": "1", "b": 0}


def test_numbers_are_made_where_they_fit() -> None:
    """`types` makes numbers; what is none stays a text."""
    types = {"a": "int", "b": "float", "c": "int"}
    text = "12 1.5 " + "9" * 30
    expected = {"a": 12, "b": 1.5, "c": "9" * 30}
    assert one("parse_regex", {"message": text}, pattern=r"(?P<a>\S+) (?P<b>\S+) (?P<c>\S+)", types=types) == expected
    got = one("parse_regex", {"message": "x inf -"}, pattern=r"(?P<a>\S+) (?P<b>\S+) (?P<c>\S+)", types=types)
    assert got == {"a": "x", "b": "inf", "c": "-"}


def test_texts_beyond_ascii() -> None:
    """Groups are cut at characters, not bytes; half a surrogate pair does no harm."""
    pattern = r"(?s)(?P<a>.)(?P<message>.*)"
    assert one("parse_regex", {"message": "äöü😀"}, pattern=pattern) == {"a": "ä", "message": "öü😀"}
    assert one("parse_regex", {"message": "x\ud800"}, pattern=pattern) == {"a": "x", "message": "?"}


def test_events_with_their_fields_are_left_alone() -> None:
    """`unless_fields` protects records that are structured already."""
    record = {"message": "ERROR x", "log_level": "INFO"}
    pattern = r"(?P<log_level>[A-Z]+) (?P<message>.*)"
    assert one("parse_regex", dict(record), pattern=pattern, unless_fields=["log_level"]) == record


def test_a_mismatch_can_be_an_error_for_that_event_alone() -> None:
    """The event that does not fit is a dead letter, its neighbours pass."""
    built = stage("parse_regex", pattern=r"(?P<a>\d+)", on_mismatch="error")
    result = built.apply(batch([{"message": "1"}, {"message": "x"}, {"message": 5}, {"message": "2"}]))
    assert result.records == [{"a": "1"}, {"a": "2"}]
    assert [letter.reason for letter in result.outcome.rejected] == ["no pattern fits message"] * 2


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({}, "pattern: set `pattern` or `patterns`"),
        ({"pattern": "(?P<a>x)", "patterns": ["(?P<a>x)"]}, "pattern: set `pattern` or `patterns`"),
        ({"pattern": "(?P<a>x"}, "pattern: RE2 does not take '(?P<a>x': missing )"),
        ({"patterns": ["(?P<a>x)", r"(?P<a>x)\1"]}, "patterns: RE2 does not take"),
        ({"pattern": "x"}, "pattern: 'x' has no named group"),
        ({"pattern": "(?P<a>x)", "types": {"b": "int"}}, "types: no pattern has a group b"),
    ],
)
def test_mistakes_in_the_settings(config: dict[str, object], problem: str) -> None:
    """A pattern that cannot work is a mistake of the configuration, with its reason."""
    assert check("parse_regex", **config)[0].startswith(problem)


def test_no_input_makes_it_slow() -> None:
    """A pattern that takes other engines for ever is through in no time."""
    start = time.perf_counter()
    one("parse_regex", {"message": "a" * 5000 + "b"}, pattern=r"(?P<a>(a+)+)")
    assert time.perf_counter() - start < 1
