"""Fluentd's match patterns, by its documentation's examples and its own tests."""

from __future__ import annotations

import pytest

from mcp_ingest.config.tags import compile_patterns, covered


@pytest.mark.parametrize(
    ("pattern", "taken", "left"),
    [
        ("a.*", ["a.b"], ["a", "a.b.c"]),
        ("a.**", ["a", "a.b", "a.b.c"], ["ab", "b.a"]),
        ("{a,b}", ["a", "b"], ["c", "{a,b}"]),
        ("a.{b,c}.*", ["a.b.x", "a.c.x"], ["a.b", "a.d.x"]),
        ("a.{b,c.**}", ["a.b", "a.c", "a.c.d.e"], ["a.b.c"]),
        ("a b", ["a", "b"], ["a b", "c"]),
        ("a.** b.*", ["a", "a.b", "a.b.c", "b.d"], ["b", "b.d.e"]),
        ("**", ["", "a", "a.b"], []),
        ("*", ["a"], ["a.b"]),
        ("**.b", ["b", "a.b", "a.c.b"], ["ab", "b.a"]),
        ("a.**.c", ["a.c", "a.b.c", "a.b.b.c"], ["ac", "a.b"]),
        ("a.b*", ["a.b", "a.bc"], ["a.cb"]),
        ("a.*.c", ["a.b.c"], ["a.c", "a.b.b.c"]),
        ("ab.**", ["ab", "ab.c"], ["abc", "a"]),
        ("{a,{b,c}x}.d", ["a.d", "bx.d", "cx.d"], ["b.d"]),
        ("a.$x+(y)", ["a.$x+(y)"], ["a.xy"]),
        ("/^a+$/", ["a", "aaa"], ["ab"]),
    ],
)
def test_a_pattern_takes_what_fluentd_takes(pattern: str, taken: list[str], left: list[str]) -> None:
    """A pattern takes the tags that Fluentd's documentation and tests say it takes, and no other."""
    takes = compile_patterns([pattern])
    assert [tag for tag in taken if not takes(tag)] == []
    assert [tag for tag in left if takes(tag)] == []


@pytest.mark.parametrize("pattern", ["{a,b", "a}", "/(/", "/a", ""])
def test_a_malformed_pattern_is_refused(pattern: str) -> None:
    """A pattern that cannot be meant is a ValueError, not a pipeline that never takes anything."""
    with pytest.raises(ValueError, match=r"\w"):
        compile_patterns([pattern])


@pytest.mark.parametrize(
    ("patterns", "by", "expected"),
    [
        (["a.b"], ["**"], True),
        (["a.b.c"], ["a.**"], True),
        (["a.**"], ["a.**"], True),
        (["a.b.**"], ["a.**"], True),
        (["a.{b,c}"], ["a.b", "a.c"], True),
        (["a.*"], ["a.**"], True),
        (["a.**"], ["a.*"], False),
        (["a.**"], ["a", "a.*", "a.*.*"], False),
        (["a.**"], ["a.b.**"], False),
        (["**"], ["*", "*.**"], True),
        (["**"], ["a.**"], False),
        (["a.*"], ["a.b"], False),
        (["/x/"], ["a.**"], False),
        (["/x/"], ["**"], True),
    ],
)
def test_what_is_covered_is_known(patterns: list[str], by: list[str], expected: bool) -> None:
    """Patterns are covered when no tag is left that they take and the others do not."""
    assert covered(patterns, by) is expected
