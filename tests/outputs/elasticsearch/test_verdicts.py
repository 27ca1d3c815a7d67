"""The table of what a `_bulk` answer means, row by row."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mcp_ingest.outputs.elasticsearch.verdicts import verdicts
from mcp_ingest.verdict import (
    DELIVERED,
    DUPLICATE,
    REDIRECTED,
    AllDelivered,
    Each,
    Malformed,
    Park,
    ParkAll,
    Refused,
    Retry,
    TooLarge,
    Unknown,
    Verdict,
)


def error(kind: str, reason: str = "because") -> dict[str, str]:
    return {"type": kind, "reason": reason}


def answer(*items: dict[str, Any], errors: bool = True) -> bytes:
    return json.dumps({"errors": errors, "took": 1, "items": [{"create": item} for item in items]}).encode()


def item(status: int, kind: str = "", reason: str = "because", **more: str) -> dict[str, Any]:
    return {"_index": "i", "status": status, **({"error": error(kind, reason)} if kind else {}), **more}


def refused(field: str | None = None, kind: str = "refused") -> Verdict:
    return Refused("", field, kind)


ITEMS: list[tuple[str, dict[str, Any], Verdict]] = [
    ("created", item(201), DELIVERED),
    ("200", item(200), DELIVERED),
    ("failure store", item(201, failure_store="used"), REDIRECTED),
    ("failure store not used", item(201, failure_store="not_applicable_or_unknown"), DELIVERED),
    ("there already", item(409, "version_conflict_engine_exception"), DUPLICATE),
    ("queue full", item(429, "es_rejected_execution_exception"), Retry("", overloaded=True)),
    ("OpenSearch's queue full", item(429, "rejected_execution_exception"), Retry("", overloaded=True)),
    ("memory", item(429, "circuit_breaking_exception"), Retry("", overloaded=True, smaller=True)),
    (
        "indexing pressure",
        item(429, "es_rejected_execution_exception", "rejected execution of coordinating operation "
             "[coordinating_and_primary_bytes=0, replica_bytes=0, all_bytes=0, coordinating_operation_bytes=9000]"),
        Retry("", overloaded=True, smaller=True),
    ),
    ("disk full", item(429, "cluster_block_exception"), Park("")),
    ("primary missing", item(503, "unavailable_shards_exception"), Park("")),
    ("no shard", item(503, "no_shard_available_action_exception"), Park("")),
    ("no master in time", item(503, "process_cluster_event_timeout_exception"), Retry("", overloaded=True)),
    ("internal", item(500, "node_not_connected_exception"), Retry("")),
    ("bad gateway", item(502), Retry("")),
    ("gateway timeout", item(504), Retry("")),
    ("request timeout", item(408), Retry("")),
    ("no status", {"_index": "i"}, Retry("")),
    ("a status that is no number", {"status": "201"}, Retry("")),
    (
        "type conflict",
        item(400, "document_parsing_exception", "[1:6] failed to parse field [n] of type [long] in document with id"),
        refused("n", "document_parsing_exception"),
    ),
    (
        "type conflict of 7.17 and OpenSearch",
        item(400, "mapper_parsing_exception", "object mapping for [log] tried to parse field [log] as object, but"),
        refused("log", "mapper_parsing_exception"),
    ),
    (
        "strict",
        item(400, "strict_dynamic_mapping_exception", "[1:3] mapping set to strict, dynamic introduction of [new] "
             "within [s] is not allowed"),
        refused("s.new", "strict_dynamic_mapping_exception"),
    ),
    (
        "too many fields",
        item(400, "illegal_argument_exception", "Limit of total fields [1000] has been exceeded"),
        refused(None, "illegal_argument_exception"),
    ),
    ("our bad name", item(400, "invalid_index_name_exception"), refused(None, "invalid_index_name_exception")),
    ("any other 400", item(400, "new_in_2031_exception"), refused()),
    ("too large for its own", item(413), refused()),
    ("failure store failed", item(400, "parsing_exception", failure_store="failed"), refused()),
    ("set-up missing", item(404, "index_not_found_exception"), Park("")),
    ("write block", item(403, "cluster_block_exception"), Park("")),
    ("role forbids", item(403, "security_exception"), Park("")),
    ("closed", item(400, "index_closed_exception"), Park("")),
    (
        "too many shards",
        item(400, "validation_exception", "this action would add [2] shards, but this cluster currently has [0]/[1] "
             "maximum normal shards open"),
        Park(""),
    ),
    ("no pipeline", item(400, "illegal_argument_exception", "pipeline with id [nope] does not exist"), Park("")),
]  # fmt: skip


@pytest.mark.parametrize(("given", "expected"), [row[1:] for row in ITEMS], ids=[row[0] for row in ITEMS])
def test_an_item_means(given: dict[str, Any], expected: Verdict) -> None:
    """Each item is judged by its own status and error, whatever its neighbour's."""
    found = verdicts(200, answer(given, item(201)), 2)
    if found == AllDelivered():
        assert expected is DELIVERED
        return
    assert isinstance(found, Each)
    first, neighbour = found.verdicts
    assert neighbour is DELIVERED
    if isinstance(first, Retry | Park):
        assert first._replace(why="") == expected
        assert type(first) is type(expected)
    elif isinstance(first, Refused):
        assert isinstance(expected, Refused)
        assert (first.field, first.kind) == (expected.field, expected.kind)
    else:
        assert first is expected


def whole(kind: str = "some_exception", reason: str = "because") -> bytes:
    return json.dumps({"error": {"root_cause": [], **error(kind, reason)}}).encode()


WHOLE: list[tuple[str, int, bytes, type]] = [
    ("queue full", 429, whole("es_rejected_execution_exception"), Unknown),
    ("OpenSearch's queue full", 429, whole("rejected_execution_exception"), Unknown),
    ("memory", 429, whole("circuit_breaking_exception"), Unknown),
    ("a proxy's limit", 429, b"slow down", Unknown),
    ("disk full", 429, whole("cluster_block_exception"), ParkAll),
    ("internal", 500, whole(), Unknown),
    ("bad gateway", 502, b"<html>", Unknown),
    ("unavailable", 503, b"", Unknown),
    ("gateway timeout", 504, b"", Unknown),
    ("request timeout", 408, b"", Unknown),
    ("wrong password", 401, whole("security_exception"), ParkAll),
    ("forbidden", 403, whole("security_exception"), ParkAll),
    ("read-only cluster", 403, whole("cluster_block_exception"), ParkAll),
    ("too big", 413, b"", TooLarge),
    ("bad line", 400, whole("x_content_parse_exception"), Malformed),
    ("bad id", 400, whole("action_request_validation_exception"), Malformed),
    ("media type, which no event can help", 400, whole("media_type_header_exception"), ParkAll),
    ("no such path", 400, b'{"error":"no handler found for uri [/x/_bulk] and method [POST]"}', ParkAll),
    ("a 400 that is not Elasticsearch's", 400, b"The plain HTTP request was sent to HTTPS port", ParkAll),
    ("OpenSearch's media type", 406, b'{"error":"Content-Type header [x] is not supported"}', ParkAll),
    ("no such path in front", 404, b"not here", ParkAll),
    ("a redirect that was not followed", 304, b"", ParkAll),
    ("a 200 that is not JSON", 200, b"<html>hello</html>", Unknown),
    ("cut off", 200, answer(item(201), item(201))[:-9], Unknown),
    ("fewer items than sent", 200, answer(item(201), errors=False), Unknown),
    ("more items than sent", 200, answer(*[item(201)] * 3, errors=False), Unknown),
    ("accepted, but not said what", 202, b"", Unknown),
]


@pytest.mark.parametrize(("status", "body", "kind"), [row[1:] for row in WHOLE], ids=[row[0] for row in WHOLE])
def test_a_whole_answer_means(status: int, body: bytes, kind: type) -> None:
    """A whole answer is judged by its status, and by its error where the status is not enough."""
    found = verdicts(status, body, 2)
    assert type(found) is kind
    assert "Elasticsearch" in getattr(found, "why", "")


def test_all_good_is_one_verdict_for_all() -> None:
    """The common answer makes no list, whether its bytes have spaces in them or not."""
    body = answer(item(201), item(201), errors=False)
    assert verdicts(200, body, 2) == AllDelivered()
    assert verdicts(200, body.replace(b" ", b""), 2) == AllDelivered()


def test_the_failure_store_is_seen_in_an_answer_without_errors() -> None:
    """`failure_store: used` comes with `errors: false` and is no delivery."""
    body = answer(item(201), item(201, failure_store="used"), errors=False).replace(b" ", b"")
    assert verdicts(200, body, 2) == Each([DELIVERED, REDIRECTED])


@pytest.mark.parametrize(
    ("status", "body", "overloaded", "smaller"),
    [
        (429, whole("es_rejected_execution_exception"), True, False),
        (429, whole("circuit_breaking_exception"), True, True),
        (429, whole("es_rejected_execution_exception", "x [coordinating_operation_bytes=90000] x"), True, True),
        (429, b"slow down", True, False),
        (503, b"", True, False),
        (500, whole(), False, False),
        (502, b"<html>", False, False),
        (504, b"", False, False),
    ],
)
def test_a_busy_server_is_told_from_a_broken_one(status: int, body: bytes, overloaded: bool, smaller: bool) -> None:
    """429 and 503 ask for fewer at once, want of memory for less in each."""
    found = verdicts(status, body, 2)
    assert isinstance(found, Unknown)
    assert (found.overloaded, found.smaller) == (overloaded, smaller)


def test_retry_after_is_honoured() -> None:
    """The header's seconds go along, to single events, too."""
    found = verdicts(200, answer(item(429, "es_rejected_execution_exception"), item(201)), 2, retry_after="9")
    assert isinstance(found, Each)
    assert found.verdicts[0] == Retry("429 es_rejected_execution_exception: because", 9.0, overloaded=True)
    for status in (429, 503):
        found = verdicts(status, b"", 1, retry_after="17")
        assert isinstance(found, Unknown)
        assert found.after == 17.0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("Wed, 21 Oct 2026 07:28:00 GMT", 30.0),
        ("Wednesday, 21-Oct-26 07:28:00 GMT", 30.0),
        ("Wed Oct 21 07:28:00 2026", 30.0),
        ("Wed, 21 Oct 2026 09:28:00 +0200", 30.0),
        ("Wed, 21 Oct 2026 07:27:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600.0),
        ("999999999999", 3600.0),
        ("Wed, 41 Oct 2026 07:28:00 GMT", None),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
        ("", None),
    ],
)
def test_retry_after_may_be_a_date(header: str, seconds: float | None) -> None:
    """All forms of RFC 9110, by the clock that is handed in; what is past is now, what is far off an hour."""
    dated = verdicts(429, b"", 1, retry_after=header, now=1792567650.0)
    assert isinstance(dated, Unknown)
    assert dated.after == seconds
    assert dated.overloaded


def test_a_refused_login_names_server_and_user() -> None:
    """One sentence says which server refuses whom and why."""
    found = verdicts(401, whole("security_exception", "unable to authenticate user [bob] for REST request [/_bulk]"), 1,
                     peer="Elasticsearch at https://es:9200", login="user bob")  # fmt: skip
    assert isinstance(found, ParkAll)
    assert found.why.startswith("Elasticsearch at https://es:9200 refuses user bob: 401 security_exception: unable")


def test_why_is_short_and_shows_no_value() -> None:
    """A refusal says type and reason, without the preview of the field's value."""
    reason = (
        "[1:6] failed to parse field [n] of type [long] in document with id 'x'. Preview of field's value: 's3cret'"
    )
    found = verdicts(200, answer(item(400, "document_parsing_exception", reason)), 1)
    assert isinstance(found, Each)
    assert found.verdicts == [
        Refused(
            "400 document_parsing_exception: [1:6] failed to parse field [n] of type [long]",
            "n",
            "document_parsing_exception",
        )
    ]
