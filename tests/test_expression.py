"""Conditions: what they say, what they refuse, and that no record breaks them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_ingest.errors import ConfigError
from mcp_ingest.expression import compile_expression

RECORD: dict[str, Any] = {
    "log_level": "DEBUG",
    "count": 5,
    "text": "abc",
    "empty": None,
    "metadata": {"region": {"name": "eu"}},
    "service.name": "router",
    "list": [1, 2],
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("log_level == 'DEBUG'", True),
        ("log_level != 'DEBUG'", False),
        ("log_level != 'INFO'", True),
        ("missing == 'a'", False),
        ("missing != 'a'", False),
        ("empty != 'a'", False),
        ("missing != log_level", False),
        ("missing < 1", False),
        ("not (missing < 1)", True),
        ("missing is None", True),
        ("count is not None", True),
        ("count < 'a'", False),
        ("not (count < 'a')", True),
        ("1 < count <= 5", True),
        ("5 < count <= 9", False),
        ("count in [1, 5]", True),
        ("count not in [1, 5]", False),
        ("missing in [1, 5]", False),
        ("missing not in [1, 5]", False),
        ("count not in [log_level, 4]", True),
        ("count in [None, 5]", True),
        ("'a' in text", True),
        ("'a' in missing", False),
        ("1 in list", True),
        ("'x' not in text", True),
        ("'x' in count", False),
        ('field("service.name") == "router"', True),
        ('field("metadata.region.name") == "eu"', True),
        ('field("metadata.region.name.more") == "eu"', False),
        ("count * 2 + 1 == 11 and count // 2 == 2 and count % 2 == 1", True),
        ("count / 0 == 1", False),
        ("text + 'd' == 'abcd'", True),
        ("text * 3 == 'abcabcabc'", False),
        ("-count == -5", True),
        ("len(text) == 3 and len(list) == 2", True),
        ("len(count) > 0", False),
        ("lower(log_level) == 'debug' and upper(text) == 'ABC'", True),
        ("lower(count) == 'debug'", False),
        ("startswith(text, 'ab') and endswith(text, 'bc') and contains(text, 'b')", True),
        ("startswith(missing, 'ab')", False),
        ("matches(text, '^a.c$')", True),
        ("matches(count, '5')", False),
        ("text or missing", True),
        ("tag == 'mcp.app' and time > 5", True),
        ("log_level == 'DEBUG'\n  and count == 5", True),
    ],
)
def test_conditions(text: str, expected: bool) -> None:
    """A condition says of a record what Python would, but nothing of what is missing or of another type."""
    assert compile_expression(text)(RECORD, "mcp.app", 7) is expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("service.name == 1", 'column 1: write field("service.name") for the field `service.name`'),
        ("  'é' == a.b", 'column 10: write field("a.b") for the field `a.b`'),
        ("foo(1)", "column 1: there is no such function"),
        ("x and __import__('os').system('true')", "column 7: there is no such function"),
        ("x == true", "column 6: `true` is written `True`"),
        ("x == None", "column 1: a comparison with None is always false"),
        ("x is 1", "column 1: `is` asks for None only"),
        ("x[0]", "column 1: an index is not allowed here"),
        ("[y for y in x]", "column 1: a loop is not allowed here"),
        ("x == f'{y}'", "column 6: a text with fields in it is not allowed here"),
        ("x == b'y'", "column 6: b'y' is not allowed here"),
        ("x ** 9 == 1", "column 1: this operator is not allowed"),
        ("~x", "column 1: this operator is not allowed"),
        ("len(x, y)", "column 1: len takes 1 argument"),
        ("startswith(x)", "column 1: startswith takes 2 arguments"),
        ("field(x)", "column 1: field takes a text in quotes"),
        ("matches(x, y)", "column 1: matches takes a text in quotes"),
        ("matches(x, '(')", "column 12: the pattern is not RE2"),
        ("x = 1", "column 3: invalid syntax"),
        ("", "column 1: invalid syntax"),
        ("x\0", "column 1: "),
        ("not " * 5000 + "x", "column 1: the expression is nested too deep"),
    ],
)
def test_mistakes(text: str, problem: str) -> None:
    """What is not allowed is a mistake that names it and its column."""
    with pytest.raises(ConfigError) as caught:
        compile_expression(text)
    assert caught.value.problems[0].startswith(problem)


def test_mask() -> None:
    """A batch is evaluated at once, with its tags and times."""
    records = [{"a": 1}, {"a": 2}, {}]
    assert compile_expression("a == 1 or tag == 'y'").mask(records, ["x", "x", "y"], [0, 0, 0]) == [True, False, True]
    assert compile_expression("a > 1").mask(records, ["x", "x", "y"], [0, 0, 0]) == [False, True, False]
    assert compile_expression("time is None").mask(records, ["x"] * 3, [1, 0, 1]) == [False, True, False]


_VALUES: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers()) | st.just({})
)
_TEXTS = st.sampled_from(
    ["a == b", "a != b", "a < b", "a in b", "a not in [b, 'x']", "a + b > 1", "a * b == 2", "a % b > 0", "len(a) < b"]
)


@given(text=_TEXTS, a=_VALUES, b=_VALUES)
def test_no_record_breaks_a_condition(text: str, a: Any, b: Any) -> None:
    """Whatever stands in the fields, the answer is true or false."""
    assert compile_expression(text)({"a": a, "b": b}) in (True, False)
