"""Searching Elasticsearch: the structure of a search is ours, each of its leaves is Elasticsearch's `query_string`.

So AND, OR and NOT mean the same as on the store, and what a value means is up to the field's mapping. Leaves are
lenient: a word where the mapping has a number is no hit, as on the store.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import orjson

from mcp_ingest.engine.search.checks import (
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
from mcp_ingest.engine.search.found import Found, Hit
from mcp_ingest.errors import OutputError
from mcp_ingest.outputs.elasticsearch import ElasticsearchConfig
from mcp_ingest.outputs.elasticsearch.access import Access, Answer
from mcp_ingest.outputs.elasticsearch.address import index_pattern
from mcp_ingest.outputs.elasticsearch.connection import Connection

_SECONDS = 30.0
_SPECIAL = re.compile(r'([+\-=&|><!(){}\[\]^"~*?:\\/\s])')

Body = dict[str, Any]


async def search(
    config: ElasticsearchConfig, check: Check, between: Between, limit: int, *, newest_first: bool = True
) -> Found:
    """The first `limit` hits in the output's indices, sorted by time; `OutputError` where it cannot be asked."""
    order = {"order": "desc" if newest_first else "asc", "unmapped_type": "date_nanos"}
    filters = [compiled(check), compiled(between)]
    body = {"query": {"bool": {"filter": filters}}, "size": limit, "sort": [{"@timestamp": order}]}
    return _found(await _ask(config, body))


def compiled(check: Check) -> Body:
    """The query in Elasticsearch's own language."""
    match check:
        case Everything() | Between(None, None):
            return {"match_all": {}}
        case All(parts):
            return {"bool": {"filter": [compiled(part) for part in parts]}}
        case Some(parts):
            return {"bool": {"should": [compiled(part) for part in parts], "minimum_should_match": 1}}
        case No(part):
            return {"bool": {"must_not": [compiled(part)]}}
        case Between(first, last):
            bounds = {"gte": first, "lte": last}
            return {"range": {"@timestamp": {side: _iso(time) for side, time in bounds.items() if time is not None}}}
        case Exists("_id"):
            return {"match_all": {}}
        case Exists(field):
            return {"exists": {"field": field}}
        case Term("_id", text):
            return {"ids": {"values": [text]}}
        case Term(field, text):
            return _leaf(f"{_escape(field)}:{_quoted(text)}")
        case Wildcard(field, pattern):
            signs = (_escape(part) if isinstance(part, str) else part.value for part in pattern)
            return _leaf(f"{_escape(field)}:{''.join(signs)}")
        case Range():
            return _leaf(_range(check))


def _range(check: Range) -> str:
    opening, closing = "[{"[not check.with_low], "]}"[not check.with_high]
    low, high = ("*" if bound is None else _quoted(bound) for bound in (check.low, check.high))
    return f"{_escape(check.field)}:{opening}{low} TO {high}{closing}"


def _leaf(source: str) -> Body:
    return {"query_string": {"query": source, "lenient": True, "allow_leading_wildcard": True}}


def _quoted(text: str) -> str:
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


def _escape(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text)


def _iso(time: int) -> str:
    seconds, rest = divmod(time, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


# --- asking --------------------------------------------------------------------------------------------------


async def _ask(config: ElasticsearchConfig, body: Body) -> Body:
    access = Access(
        hosts=tuple(config.hosts),
        username=config.username,
        password=config.password,
        api_key=config.api_key,
        ca_file=config.ca_file,
        client_certificate=config.client_certificate,
        client_key=config.client_key,
        verify=config.verify_certificate,
        connections=1,
    )
    connection = Connection(access, _SECONDS)
    target = f"/{quote(index_pattern(config.address), safe='*,')}/_search?ignore_unavailable=true"
    headers = {"content-type": "application/json"}
    try:
        answer = await connection.request("POST", target, orjson.dumps(body), headers)
    finally:
        await connection.close()
    if not isinstance(answer, Answer):
        raise OutputError(answer.why)
    if answer.status != 200:
        raise OutputError(f"{access.peer} answered {answer.status}: {_reason(answer.body)}")
    found: Body = orjson.loads(answer.body)
    return found


def _reason(body: bytes) -> str:
    try:
        error = orjson.loads(body)["error"]
        causes = error.get("root_cause") or [error]
        return f"{causes[0].get('type')}: {causes[0].get('reason')}"
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return body[:200].decode(errors="replace")


def _found(answer: Body) -> Found:
    total = answer["hits"]["total"]
    hits = [Hit(hit["_id"], hit["_source"]) for hit in answer["hits"]["hits"]]
    failures = answer["_shards"].get("failures") or []
    notes = [f"a shard failed: {failure['reason'].get('reason')}" for failure in failures]
    if answer.get("timed_out"):
        notes.append("Elasticsearch ran out of time: there may be more")
    return Found(hits, total["value"], total["relation"] == "eq", notes)
