"""Lucene's syntax: what is read, what is refused and with which sentence."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_ingest.engine.search.checks import (
    ANY_CHARACTER,
    ANY_TEXT,
    All,
    Between,
    Check,
    Everything,
    Exists,
    No,
    Range,
    Some,
    Term,
    Wildcard,
)
from mcp_ingest.engine.search.lucene import parse
from mcp_ingest.errors import QueryError

NOW = 1_795_348_800_000_000_000  # 2026-11-22T12:00:00Z
HOUR = 3600 * 10**9
A, B, C = Term("message", "a"), Term("message", "b"), Term("message", "c")


@pytest.mark.parametrize(
    ("text", "check"),
    [
        ("", Everything()),
        ("  ", Everything()),
        ("*", Everything()),
        ("*:*", Everything()),
        ("a", A),
        ('"a b"', Term("message", "a b")),
        ("service.name:x", Term("service_name", "x")),
        ("log_level:ERROR", Term("log_level", "ERROR")),
        ("http\\:x:5", Term("http:x", "5")),
        ('n:"say \\"hi\\" *"', Term("n", 'say "hi" *')),
        ("n:a\\*b", Term("n", "a*b")),
        ("n:a*b?", Wildcard("n", ("a", ANY_TEXT, "b", ANY_CHARACTER))),
        ("n:a**", Wildcard("n", ("a", ANY_TEXT))),
        ("time*", Wildcard("message", ("time", ANY_TEXT))),
        ("n:\\**", Wildcard("n", ("*", ANY_TEXT))),
        ("n:*", Exists("n")),
        ("_exists_:log.level", Exists("log_level")),
        ("n:[* TO *]", Exists("n")),
        ("n:[1 TO 5}", Range("n", "1", "5", True, False)),
        ("n:[-1 TO 5]", Range("n", "-1", "5")),
        ("n:>=10", Range("n", "10", None, True)),
        ('n:<"-5"', Range("n", None, "-5", True, False)),
        ("@timestamp:>=now-1h", Between(NOW - HOUR, None)),
        ("timestamp:[2026-11-22T11:00:00Z TO now}", Between(NOW - HOUR, NOW - 1)),
        ("a b", All((A, B))),
        ("a AND b", All((A, B))),
        ("a OR b", Some((A, B))),
        ("a AND b OR c", Some((All((A, B)), C))),
        ("a b OR c", Some((All((A, B)), C))),
        ("a OR b c", Some((A, All((B, C))))),
        ("a OR b AND c", Some((A, All((B, C))))),
        ("(a OR b) AND c", All((Some((A, B)), C))),
        ("(a OR b) c", All((Some((A, B)), C))),
        ("NOT a", No(A)),
        ("NOT a AND b", All((No(A), B))),
        ("+a -b", All((A, No(B)))),
        ("a OR NOT b", Some((A, No(B)))),
        ("n:(x OR y)", Some((Term("n", "x"), Term("n", "y")))),
        ("n:(+x -y)", All((Term("n", "x"), No(Term("n", "y"))))),
    ],
)
def test_what_is_read(text: str, check: Check) -> None:
    """A text becomes what it asks for."""
    assert parse(text, NOW) == check


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a~", "fuzzy"),
        ("a~1", "fuzzy"),
        ('"a b"~2', "proximity"),
        ("a^2", "boost"),
        ("/a.*/", "regular expression"),
        ("n:/a/", "regular expression"),
        ("n:/api/v1", "quotes"),
        ("a && b", "AND"),
        ("a || b", "OR"),
        ("!a", "NOT"),
        ("+a OR b", "brackets"),
        ("a:b:c", "quotes"),
        ("n:-5", "quotes"),
        ("n:>-5", "quotes"),
        ("lab*:x", "field's name"),
        ("_source:x", "`_source`"),
        ("request_id:*x", "first letter"),
        ("trace.id:?x", "first letter"),
        ("metadata.x:*y", "last letter"),
        ("metadata.x:>5", "both bounds"),
        ("[a TO b]", "range over the words"),
        ("n:[a* TO b]", "wildcard in a range"),
        ("@timestamp:yesterday", "not a time"),
        ("@timestamp:2026*", "wildcard"),
        ("n:" + "*a" * 30, "20 wildcards"),
        ("(a", "Lucene"),
        ("a:", "Lucene"),
        ('"a', "Lucene"),
        ("AND", "Lucene"),
        ("x" * 20_000, "10000 characters"),
        ("(" * 4000 + "a" + ")" * 4000, "too deep"),
    ],
)
def test_what_is_refused(text: str, said: str) -> None:
    """What is wrong or not supported is named, with what to write in its place."""
    with pytest.raises(QueryError, match=said.replace("`", ".")):
        parse(text, NOW)


@settings(deadline=None)
@given(st.text(alphabet='ab *?:"\\()[]{}~^/+-!<>=&|ANDORNOT.0@\n', max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Whatever is typed becomes a check or a QueryError, never anything else."""
    with suppress(QueryError):
        assert parse(text, NOW)
