"""Which field a reason names, over the phrasings of the versions."""

from __future__ import annotations

import pytest

from mcp_ingest.codecs.bulk import BulkError
from mcp_ingest.outputs.elasticsearch.reasons import field_of

REASONS = [
    ("[1:6] failed to parse field [n] of type [long] in document with id 'a'. Preview of field's value: 'x'", "n"),
    ("[1:6] object mapping for [o] tried to parse field [o] as object, but found a concrete value", "o"),
    ("[1:13] mapping set to strict, dynamic introduction of [new] within [s.t] is not allowed", "s.t.new"),
    ("[1:13] mapping set to strict, dynamic introduction of [new] within [_doc] is not allowed", "new"),
    ("[1:20] Cannot write to a field alias [service.name].", "service.name"),
    ("mapper [status] cannot be changed from type [long] to [text]", "status"),
    ("mapper [status] of different type, current_type [long], merged_type [text]", "status"),
    ("Could not dynamically add mapping for field [app.kubernetes.io/name]. Existing mapping for [app] must be of type "
     "object but found [keyword].", "app.kubernetes.io/name"),
    ("can't merge a non object mapping [app] with an object mapping", "app"),
    ("Document contains at least one immense term in field=\"k\" (whose UTF8 encoding is longer than", "k"),
    ('Document contains at least one immense term in field="metadata._valueAndPath" (whose UTF8', "metadata"),
    ("object field starting or ending with a [.] makes object resolution ambiguous: [a.]", "a."),
    ("[1:2] failed to parse: field name cannot contain only whitespace: ['u..v']", "u..v"),
    ("[1:8] Field [_id] is a metadata field and cannot be added inside a document.", "_id"),
    ("failed to parse [duration_ms]", "duration_ms"),
    ("[1:2] failed to parse: field name cannot be an empty string", None),
    ("Malformed content, must start with an object", None),
    ("", None),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "field"), REASONS)
def test_a_reason_names_its_field(reason: str, field: str | None) -> None:
    """The field is read off the sentence, None where there is none in it."""
    assert field_of(BulkError("some_exception", reason)) == field


def test_the_cause_is_asked_where_the_reason_says_nothing() -> None:
    """OpenSearch and 7.17 say "failed to parse" and name the field one level below."""
    error = BulkError("mapper_parsing_exception", "failed to parse", "Cannot write to a field alias [log.level].")
    assert field_of(error) == "log.level"
