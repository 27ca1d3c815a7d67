"""What Elasticsearch is asked, and what is made of its answers; `tests/integration/test_query.py` asks a real one."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_ingest.engine.search import elasticsearch
from mcp_ingest.engine.search.checks import All, Between, Everything, Exists, No, Range, Some, Term, Wildcard
from mcp_ingest.engine.search.found import Hit
from mcp_ingest.engine.search.lucene import parse
from mcp_ingest.errors import OutputError
from mcp_ingest.outputs.elasticsearch import ElasticsearchConfig
from tests.integration.servers import free_port


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("a", 'message:"a"'),
        ('n:"say \\"hi\\" \\\\"', 'n:"say \\"hi\\" \\\\"'),
        ("n:a\\*b", 'n:"a*b"'),
        ("n:a/b*", "n:a\\/b*"),
        ("http\\:x:a?b", "http\\:x:a?b"),
        ("n:[1 TO 5}", 'n:["1" TO "5"}'),
        ("n:<5", 'n:[* TO "5"}'),
    ],
)
def test_leaves_are_quoted(text: str, source: str) -> None:
    """A leaf is written anew, so that nothing in it means more than it did to us."""
    assert elasticsearch.compiled(parse(text, 0)) == {
        "query_string": {"query": source, "lenient": True, "allow_leading_wildcard": True}
    }


def test_structure() -> None:
    """AND, OR and NOT are Elasticsearch's own `bool`, in which nothing binds oddly."""
    check = All((Exists("a"), Some((Everything(), No(Term("_id", "x"))))))
    assert elasticsearch.compiled(check) == {
        "bool": {
            "filter": [
                {"exists": {"field": "a"}},
                {
                    "bool": {
                        "should": [{"match_all": {}}, {"bool": {"must_not": [{"ids": {"values": ["x"]}}]}}],
                        "minimum_should_match": 1,
                    }
                },
            ]
        }
    }


def test_times() -> None:
    """Times go as ISO with nanoseconds."""
    assert elasticsearch.compiled(Between(1, None)) == {
        "range": {"@timestamp": {"gte": "1970-01-01T00:00:00.000000001Z"}}
    }
    assert elasticsearch.compiled(Between(None, None)) == {"match_all": {}}


@pytest.mark.parametrize("check", [Wildcard("n", ("a",)), Range("n", "a", None), Exists("_id")])
def test_every_check_has_a_query(check: Any) -> None:
    """No check is without a query."""
    assert elasticsearch.compiled(check)


def test_answers() -> None:
    """Hits, totals that are only a bound, and what failed."""
    found = elasticsearch._found(
        {
            "timed_out": True,
            "_shards": {"failures": [{"reason": {"reason": "broken"}}]},
            "hits": {"total": {"value": 10_000, "relation": "gte"}, "hits": [{"_id": "a", "_source": {"n": 1}}]},
        }
    )
    assert found.hits == [Hit("a", {"n": 1})]
    assert (found.total, found.exact, len(found.notes)) == (10_000, False, 2)


async def test_nobody_there() -> None:
    """A server that is away is an OutputError that names it."""
    config = ElasticsearchConfig(hosts=[f"http://127.0.0.1:{free_port()}"])
    with pytest.raises(OutputError, match="cannot be reached"):
        await elasticsearch.search(config, Everything(), Between(None, None), 1)


@pytest.mark.parametrize(
    ("body", "said"),
    [(b'{"error":{"root_cause":[{"type":"t","reason":"r"}]}}', "t: r"), (b"<html>", "<html>"), (b'{"error":"x"}', "x")],
)
def test_reasons(body: bytes, said: str) -> None:
    """An error's reason is found in whatever shape it comes."""
    assert said in elasticsearch._reason(body)
