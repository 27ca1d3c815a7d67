"""Checks as queries of the store; `tests/integration/test_query.py` has the table that Elasticsearch shares."""

from __future__ import annotations

from typing import Any

import pytest
from tantivy import Index

from mcp_ingest.engine.search.compiled import compiled
from mcp_ingest.engine.search.lucene import parse
from mcp_ingest.errors import QueryError
from mcp_ingest.outputs.store import schema

RECORDS: list[dict[str, Any]] = [
    {"message": "Hello", "n": 5, "dotted.name": -2.5, "odd key!": 7, "owner": {"id": 1}},
    {"message": "x" * 70_000, "n": "5", "owner": "bob", "list": [1, [2, {"k": "v"}]]},
    {"message": ["first part", "second"], "n": 5.5, "owner": ["bob", {"id": 2}], "status_code": "200"},
    {"message": {"an": "object"}, "n": True, "": "empty key", "service_name": 17, "status_code": 200.9},
    {"n": 2**70, "a\x00b": "nul", "metadata": "no map", "log_level": None, "tag": "x" * 2000},
    {"odd name": "a b", "title": "two  words\tand\nlines", "metadata": {"the key": "x y"}, "service_name": "my app"},
]


@pytest.fixture(scope="module")
def index() -> Index:
    """An index with hostile records."""
    made = Index(schema.schema())
    schema.register(made)
    writer = made.writer(15_000_000, 1)
    for number, record in enumerate(RECORDS):
        writer.add_document(schema.document(record, "chunk-1", f"id-{number}", number, b"{}"))
    writer.commit()
    made.reload()
    return made


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("n:5", {0, 1}),
        ("n:5.0", {0}),
        ("n:[5 TO 6]", {0, 1, 2}),
        ("n:>=1000", {1, 3, 4}),
        ("n:true", {3}),
        ("n:*", {0, 1, 2, 3, 4}),
        ("dotted.name:<0", {0}),
        ('dotted.name:"-2.5"', {0}),
        ("odd\\ key\\!:[7 TO 7]", {0}),
        ("owner.id:2", {2}),
        ("owner:bob", {1, 2}),
        ("list:2", {1}),
        ("list.k:v", {1}),
        ("first", {2}),
        ('"part second"', set()),
        ("message:an", set()),
        ("message.an:object", {3}),
        ("service_name:17", {3}),
        ("status_code:200", {2, 3}),
        ("metadata:*", {4, 5}),
        ("tag:*", set()),
        ("log_level:*", set()),
        ('odd\\ name:"a b"', {5}),
        ("odd\\ name:*", {5}),
        ('title:"two  words\tand\nlines"', {5}),
        ('title:"two words and lines"', set()),
        ("title:two\\ \\ *lines", {5}),
        ("title:two??words*", {5}),
        ("title:words", set()),
        ('title:["two !" TO "two!"]', set()),
        ('title:["two " TO "two!"]', {5}),
        ('title:>"two"', {5}),
        ('title:<"two\tx"', set()),
        ('metadata.the\\ key:"x y"', {5}),
        ('metadata:"x y"', {5}),
        ('service_name:"my app"', {5}),
        ("service_name:my\\ *", {5}),
        ("n:[999999999999999999999999 TO *]", {3}),
        ("NOT n:5", {2, 3, 4, 5}),
    ],
)
def test_hostile_records(index: Index, text: str, expected: set[int]) -> None:
    """A field that changes its type is found by each of its values, and no record hinders another."""
    searcher = index.searcher()
    hits = searcher.search(compiled(parse(text, 0), index), 10, order_by_field="time").hits
    assert {int(number) for number, _ in hits} == expected


@pytest.mark.parametrize("text", ["_id:[a TO b]", "service_version:>" + "x" * 100])
def test_too_much_is_refused(index: Index, text: str) -> None:
    """What would cost too much to search is refused."""
    with pytest.raises(QueryError):
        compiled(parse(text, 0), index)
