"""Regular expressions for wildcards and text ranges, tried on tantivy itself."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_ingest.engine.search import patterns
from mcp_ingest.engine.search.checks import ANY_CHARACTER, ANY_TEXT

TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]) | st.sampled_from("abc.*?\\[]()"), max_size=6)


def fits(pattern: str, text: str) -> bool:
    """What Rust's regex would say, in Python's dialect."""

    def character(match: re.Match[str]) -> str:
        return f"\\U{int(match[1], 16):08x}"

    return re.fullmatch(re.sub(r"\\x\{([0-9A-F]+)\}", character, pattern), text, re.DOTALL) is not None


@settings(deadline=None)
@given(TEXT, TEXT)
def test_ranges(bound: str, text: str) -> None:
    """The patterns say of any text on which side of a bound it lies, as code points sort."""
    assert fits(patterns.at_least(bound, True), text) == (text >= bound)
    assert fits(patterns.at_least(bound, False), text) == (text > bound)
    assert fits(patterns.at_most(bound, True), text) == (text <= bound)
    assert fits(patterns.at_most(bound, False), text) == (text < bound)


@settings(deadline=None)
@given(TEXT, TEXT)
def test_wildcards(head: str, tail: str) -> None:
    """`*` is any text, `?` one character, and everything else itself."""
    assert fits(patterns.wildcard((head, ANY_TEXT, tail)), head + "x\n" + tail)
    assert fits(patterns.wildcard((head, ANY_CHARACTER, tail)), head + "é" + tail)
    assert not fits(patterns.wildcard((head, ANY_CHARACTER, tail)), head + tail)
    assert fits(patterns.literal(head), head)
