"""Reasons as Elasticsearch, OpenSearch and our own stages word them, and what is left of them as a shape."""

from __future__ import annotations

import re

import pytest

from mcp_ingest.spool.signature import shape, signature

WHERE = ("elasticsearch", "", "mcp", "")

#: Each row: the shape, and reasons that have it.
SHAPES: dict[str, list[str]] = {
    "400 document_parsing_exception: [N] failed to parse field [duration_ms] of type [long]": [
        "400 document_parsing_exception: [1:34] failed to parse field [duration_ms] of type [long]",
        "400 document_parsing_exception: [12:3004] failed to parse field [duration_ms] of type [long]",
    ],
    "400 document_parsing_exception: [N] object mapping for [log] tried to parse field [log] as object, "
    "but found a concrete value": [
        "400 document_parsing_exception: [1:9] object mapping for [log] tried to parse field [log] as object, "
        "but found a concrete value",
    ],
    "400 mapper_parsing_exception: failed to parse field [@timestamp] of type [date]: "
    "failed to parse date field […] with format [strict_date_optional_time||epoch_millis]": [
        "400 mapper_parsing_exception: failed to parse field [@timestamp] of type [date]: "
        f"failed to parse date field [{value}] with format [strict_date_optional_time||epoch_millis]"
        for value in ("yesterday", "not a date", "2026-99-01", "")
    ],
    "400 strict_dynamic_mapping_exception: [N] mapping set to strict, "
    "dynamic introduction of [foo] within [_doc] is not allowed": [
        "400 strict_dynamic_mapping_exception: [1:2] mapping set to strict, "
        "dynamic introduction of [foo] within [_doc] is not allowed",
    ],
    "400 illegal_argument_exception: Limit of total fields [N] has been exceeded while adding new fields [N]": [
        "400 illegal_argument_exception: Limit of total fields [1000] has been exceeded while adding new fields [3]",
        "400 illegal_argument_exception: Limit of total fields [2,000] has been exceeded while adding new fields [11]",
    ],
    "400 illegal_argument_exception: mapper [status.code] cannot be changed from type [long] to [keyword]": [
        "400 illegal_argument_exception: mapper [status.code] cannot be changed from type [long] to [keyword]",
    ],
    "400 illegal_argument_exception: can't merge a non object mapping [a] with an object mapping": [
        "400 illegal_argument_exception: can't merge a non object mapping [a] with an object mapping",
    ],
    "400 illegal_argument_exception: Document contains at least one immense term in field=[message] "
    "(whose UTFN encoding is longer than the max length N), all of which were skipped.": [
        '400 illegal_argument_exception: Document contains at least one immense term in field="message" '
        "(whose UTF8 encoding is longer than the max length 32766), all of which were skipped."
    ],
    "400 invalid_index_name_exception: Invalid index name […], must be lowercase": [
        "400 invalid_index_name_exception: Invalid index name [Logs-2026.11.22], must be lowercase",
        "400 invalid_index_name_exception: Invalid index name [A b], must be lowercase",
    ],
    "400 mapper_parsing_exception: failed to parse field [n] of type [long] in document with id …": [
        "400 mapper_parsing_exception: failed to parse field [n] of type [long] in document with id 'AZrk8_x'",
        "400 mapper_parsing_exception: failed to parse field [n] of type [long] in document with id 'it\\'s'",
    ],
    "400 document_parsing_exception: failed to parse field [labels.ID] of type [flattened]": [
        "400 document_parsing_exception: failed to parse field [labels.7f3a9c0d] of type [flattened]",
        "400 document_parsing_exception: failed to parse field "
        "[labels.018f4c1e-9c1b-7c55-a1f0-9b6a5d2e1c77] of type [flattened]",
    ],
    "400 document_parsing_exception: [N] failed to parse field [field1] of type [long]": [
        "400 document_parsing_exception: [1:34] failed to parse field [field1] of type [long]",
        "400 document_parsing_exception: [7:2] failed to parse field [field1] of type [long]",
    ],
    "400 illegal_argument_exception: mapper [http2.log4j.status_N] cannot be changed from type [long] to [keyword]": [
        f"400 illegal_argument_exception: mapper [http2.log4j.status_{n}] "
        "cannot be changed from type [long] to [keyword]"
        for n in (404, 5003)
    ],
    "400 document_parsing_exception: failed to parse field [labels.ID.xNyN]": [
        "400 document_parsing_exception: failed to parse field [labels.abcdef12.x1y2]",
        "400 document_parsing_exception: failed to parse field [labels.7f3a9cd1.x3y4]",
    ],
    "StageError: `payload2` is not JSON: unexpected character: line N": [
        "StageError: `payload2` is not JSON: unexpected character: line 1"
    ],
    "Document contains at least one immense term in field=[message2]": [
        'Document contains at least one immense term in field="message2"'
    ],
    "413 Elasticsearch takes no request of this size": ["413 Elasticsearch takes no request of this size"],
    "the record is of type int, not a map": ["the record is of type int, not a map"],
    "StageError: `message` is not JSON: unexpected character: line N column N (char N)": [
        "StageError: `message` is not JSON: unexpected character: line 1 column 2 (char 1)",
        "StageError: `message` is not JSON: unexpected character: line 12 column 41 (char 3,141)",
    ],
    "no pipeline takes the tag …: add it to a pipeline's match": [
        "no pipeline takes the tag 'kube.a': add it to a pipeline's match",
        "no pipeline takes the tag \"it's\": add it to a pipeline's match",
    ],
    "ValueError: N is not one of (N)": ["ValueError: 3 is not one of (1, 2)", "ValueError: -4.5e3 is not one of (1)"],
    "ValueError: no level: …": ["ValueError: no level: 'x'", f"ValueError: no level: '{'long ' * 1000}'"],
    "the span ID of ID began at TIME on host N": [
        "the span 00f067aa0ba902b7 of 4bf92f3577b34da6a3ce929d0e0e4736 began at 2026-11-22T16:36:34.1Z on host 1.2.3.4",
        "the span 0x00f067aa0ba902b8 of AZrk8xUq3KZbWm0TnnQxAAAAAAAB began at 2026-11-22 16:36 on host 10.0.0.14",
    ],
    "a card [REDACTED:card] stands in [REDACTED:secret]": ["a card [REDACTED:card] stands in [REDACTED:secret]"],
}


@pytest.mark.parametrize(("expected", "reasons"), SHAPES.items(), ids=lambda value: str(value)[:40])
def test_a_shape_is_the_reason_without_what_varies(expected: str, reasons: list[str]) -> None:
    """Reasons of one cause come to one shape, in which fields and types are still named."""
    for reason in reasons:
        assert shape(reason) == expected


def test_shapes_of_different_causes_differ() -> None:
    """Another field, another type, another status: another signature."""
    reason = "400 document_parsing_exception: failed to parse field [{}] of type [{}]"
    names = [("a", "long"), ("b", "long"), ("a", "date"), ("field1", "long"), ("field2", "long"), ("field12", "long")]
    reasons = [reason.format(*each) for each in names]
    reasons.append(reasons[0].replace("400", "500"))
    assert len({signature("x", WHERE, each) for each in reasons}) == len(reasons)


def test_a_signature_says_what_and_where() -> None:
    """The same reason of another kind, output, input, pipeline or stage is another group; numbers are not."""
    same = {signature("refused", WHERE, f"line {n} is too long") for n in range(5)}
    assert len(same) == 1
    elsewhere = [("x", "", "mcp", ""), (*WHERE[:1], "x", "mcp", ""), (*WHERE[:2], "x", ""), (*WHERE[:3], "x")]
    others = {signature("refused", where, "line 1 is too long") for where in elsewhere}
    others.add(signature("stage", WHERE, "line 1 is too long"))
    assert len(others) == 5
    assert not others & same
    assert re.fullmatch("[0-9a-f]{12}", same.pop())


def test_any_text_has_a_shape_of_bounded_length() -> None:
    """A huge text, an empty one, one with half a character: each has a signature, and quickly."""
    for text in ("", "x" * 1_000_000, "'" * 10_000, "[" * 10_000, "\ud800", "1," * 10_000, '"\\' * 5_000):
        assert len(shape(text)) <= 304
        assert signature("k", WHERE, text)
