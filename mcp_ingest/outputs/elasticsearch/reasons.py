"""Which field Elasticsearch stumbled over: read off the sentence in which it says so."""

from __future__ import annotations

import re

from mcp_ingest.codecs.bulk import BulkError

#: The sentences of Elasticsearch 7.17 to 9 and OpenSearch 1 to 3 that name a field; the field is group 1.
_SENTENCES = tuple(
    map(
        re.compile,
        (
            r"Cannot write to a field alias \[(.+?)\]\.",
            r"[Cc]ould not dynamically add mapping for field \[(.+?)\]\.",
            r"object mapping for \[(.+?)\] tried to parse field",
            r"object mapping \[(.+?)\] can't be changed",
            r"failed to parse field \[(.+?)\] of type",
            r"failed to parse \[(.+?)\]",
            r"mapper \[(.+?)\] (?:cannot be changed|of different type)",
            r"[Cc]an't merge a non[ -](?:object|nested) mapping \[(.+?)\]",
            r"immense term in field=\"(.+?)(?:\._value(?:AndPath)?)?\"",
            r"Field \[(.+?)\] is a metadata field",
            r"[Oo]bject field starting or ending with a \[\.\] makes object resolution ambiguous: \[(.+?)\]",
            r"field name cannot contain only whitespace: \['(.+?)'\]",
        ),
    )
)
_STRICT = re.compile(r"dynamic introduction of \[(.+?)\] within \[(.+?)\] is not allowed")


def field_of(error: BulkError) -> str | None:
    """The dotted name of the field that the reason names, None where it names none."""
    strict = _STRICT.search(error.reason)
    if strict is not None:
        return strict[1] if strict[2] == "_doc" else f"{strict[2]}.{strict[1]}"
    for sentence in _SENTENCES:
        found = sentence.search(error.reason) or sentence.search(error.cause)
        if found is not None:
            return found[1]
    return None
