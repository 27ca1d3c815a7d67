"""What an event becomes in the index: any record, however hostile, and the same words as Elasticsearch's."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tantivy import Index

from mcp_ingest.outputs.store import schema

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
KEYS = st.text(max_size=8) | st.sampled_from(
    ["message", "service_name", "metadata", "duration_ms", "status_code", "tag"]
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, World", ["hello", "world"]),
        ("java.lang.NullPointerException", ["java.lang.nullpointerexception"]),
        ("192.168.1.1:8080", ["192.168.1.1", "8080"]),
        ("foo-bar_baz", ["foo", "bar_baz"]),
        ("can't 1,000.5", ["can't", "1,000.5"]),
        ("日本", ["日", "本"]),
        ("カタカナ", ["カタカナ"]),
        ("Ünïcödé", ["ünïcödé"]),
        ("x" * 5000, ["x" * 5000]),
        ("... --- !!!", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    """A message becomes the words that Elasticsearch's standard analyzer makes of it, long ones too."""
    assert list(schema.analyzer().analyze(" ".join(schema.words(text)))) == words


@given(st.text(st.sampled_from("aZ09_.,:;'- \t\n·’²¼éµ日カー") | st.characters(max_codepoint=0x2FF)))
def test_common_texts_are_split_like_all(text: str) -> None:
    """The quick way for common texts finds the words that the way for all texts finds."""
    assert schema.words(text) == schema._all_words()(text)


def test_leaves() -> None:
    """Maps and lists become paths with values, nulls nothing, and what lies too deep or is too much is left out."""
    record: dict[str, Any] = {"a": {"b": [1, {"c": "x"}, None]}, "d.e": True, "": "empty", "n": None, "l": []}
    assert list(schema.leaves(record)) == [("a.b", 1), ("a.b.c", "x"), ("d.e", True), ("", "empty")]
    deep: dict[str, Any] = {}
    inner = deep
    for _ in range(200):
        inner["k"] = {}
        inner = inner["k"]
    inner["k"] = "bottom"
    assert list(schema.leaves(deep)) == []
    assert len(list(schema.leaves({str(i): {"a": i, "b": i} for i in range(5000)}))) <= schema.MAX_LEAVES


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (5, 5.0),
        ("5.5", 5.5),
        (True, None),
        ("abc", None),
        (2**70, float(2**70)),
        ("nan", None),
        (None, None),
        ([], None),
    ],
)
def test_numbers(value: Any, number: float | None) -> None:
    """Numbers and strings that say one are numbers; the rest is ignored as malformed."""
    assert schema.as_number(value) == number


@settings(deadline=None)
@given(st.lists(st.dictionaries(KEYS, JSON, max_size=8), min_size=1, max_size=5))
def test_any_record_is_indexed(records: list[dict[str, Any]]) -> None:
    """Whatever JSON comes, also with other types in the same field, is indexed, kept whole and committed."""
    index = Index(schema.schema())
    schema.register(index)
    writer = index.writer(15_000_000, 1)
    for number, record in enumerate(records):
        writer.add_document(schema.document(record, "chunk-1", f"id-{number}", number, b"line"))
    writer.commit()
    index.reload()
    assert index.searcher().num_docs == len(records)
    writer.wait_merging_threads()
