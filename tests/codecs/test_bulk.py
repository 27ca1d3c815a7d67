"""The `_bulk` format: bodies as Elasticsearch reads them, answers as it gives them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_ingest.codecs.bulk import (
    ENTRY_BYTES,
    BulkError,
    all_created,
    bulk_body,
    bulk_entries,
    bulk_error,
    bulk_items,
    entry_ids,
    entry_lines,
)
from mcp_ingest.errors import DecodeError

IDS = st.text("abcXYZ019-_", min_size=1, max_size=28)
NAMES = st.sampled_from(["mcp-logs-2026.11.22", "mcp-logs-undated", "größe", 'with"quote'])
LINES = st.dictionaries(st.text(max_size=5), st.text(max_size=20)).map(lambda record: json.dumps(record).encode())


@given(st.lists(st.tuples(NAMES, IDS, LINES), min_size=1, max_size=20))
def test_a_body_says_for_each_line_where_it_goes_and_under_which_id(rows: list[tuple[str, str, bytes]]) -> None:
    """Every event is an action line and its own line, in order, and the last one ends with a newline, too."""
    body = bulk_body(*(list(column) for column in zip(*rows, strict=True)))
    assert body.endswith(b"\n")
    written = body[:-1].split(b"\n")
    actions = [json.loads(line)["create"] for line in written[0::2]]
    assert actions == [{"_index": name, "_id": event_id} for name, event_id, _ in rows]
    assert written[1::2] == [line for _, _, line in rows]


def test_one_destination_and_a_mixture_are_written_alike() -> None:
    """The fast way for a common destination makes the same bytes as the general one."""
    ids, lines = ["a", "b", "c"], [b"{}", b'{"x":1}', b"{}"]
    alone = b"".join(bulk_body(["i"], [i], [line]) for i, line in zip(ids, lines, strict=True))
    assert bulk_body(["i", "i", "i"], ids, lines) == alone
    assert bulk_body(["i", "i", "j"], ids, lines) == alone.replace(b'"i","_id":"c"', b'"j","_id":"c"')


def test_no_events_make_no_body() -> None:
    """An empty request has no bytes."""
    assert bulk_body([], [], []) == b""


def _created(*statuses: int, more: str = "") -> bytes:
    items = ",".join(f'{{"create":{{"_index":"i","status":{status}{more}}}}}' for status in statuses)
    return f'{{"errors":false,"took":3,"items":[{items}]}}'.encode()


def test_an_answer_without_trouble_is_known_from_its_bytes() -> None:
    """Only "no errors", a 2xx status for every event and no failure store count as all created."""
    assert all_created(_created(201, 201, 200), 3)
    assert not all_created(_created(201, 201), 3)
    assert not all_created(_created(201, 409), 2)
    assert not all_created(_created(201, more=',"failure_store":"used"'), 1)
    assert not all_created(_created(201).replace(b"false", b"true"), 1)


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"{}", b'{"items":3}', b'{"items":[1]}', b'{"items":[{}]}', b'{"items":[{"create":1}]}',
     b"null", _created(201)[:-5]],
)  # fmt: skip
def test_what_is_no_bulk_answer_is_a_decode_error(body: bytes) -> None:
    """Whatever the bytes are, the items come out or a DecodeError."""
    with pytest.raises(DecodeError):
        bulk_items(body)


@given(st.binary(max_size=60))
def test_any_bytes_are_items_or_a_decode_error(body: bytes) -> None:
    """`bulk_items` raises nothing but DecodeError, `bulk_error` nothing at all."""
    bulk_error(body)
    try:
        items = bulk_items(body)
    except DecodeError:
        return
    assert all(isinstance(item, dict) for item in items)


def test_an_errors_text_leaves_out_the_values_that_the_server_echoes() -> None:
    """Type, reason and cause in one line, without previews of the document."""
    error = BulkError.of(
        {
            "type": "document_parsing_exception",
            "reason": "[1:6] failed to parse field [n] of type [long] in document with id 'UR3o'. "
            "Preview of field's value: 's3cret'",
            "caused_by": {"type": "illegal_argument_exception", "reason": 'For input string: "s3cret"'},
        }
    )
    assert error.text == "document_parsing_exception: [1:6] failed to parse field [n] of type [long]"
    broken = BulkError.of(
        {"type": "x", "reason": 'Unexpected character\n at [Source: (byte[])"{s3cret"; line: 1]', "caused_by": None}
    )
    assert broken.text == "x: Unexpected character"
    immense = "at least one immense term in field=\"k\". The prefix of the first immense term is: '[115, 51, 99]...'"
    assert BulkError("x", immense).text == 'x: at least one immense term in field="k".'


def test_an_errors_text_is_short() -> None:
    """A reason of any length becomes at most 500 characters."""
    assert len(BulkError("t", "x" * 9000).text) == 500


def test_an_error_may_be_a_string_or_absent() -> None:
    """Proxies and some refusals of Elasticsearch's own have a string for an error, others nothing."""
    assert bulk_error(b'{"error":"no handler found","status":400}') == BulkError("", "no handler found")
    assert bulk_error(b"<html>502</html>") == BulkError()
    assert bulk_error(b"[1]") == BulkError()


def test_entries_give_back_what_they_were_made_of() -> None:
    """Ids and lines, one after the other; an id of another length is refused."""
    ids, lines = ["A" * 28, "B" * 28], [b'{"a":1}', b"{}"]
    entries = bulk_entries(ids, lines)
    assert entries.splitlines() == [b'{"create":{"_id":"%s"}}' % ids[0].encode(), lines[0],
                                    b'{"create":{"_id":"%s"}}' % ids[1].encode(), lines[1]]  # fmt: skip
    assert len(entries) == 2 * ENTRY_BYTES + sum(map(len, lines))
    assert (entry_ids(entries), entry_lines(entries)) == (ids, lines)
    assert (bulk_entries([], []), entry_ids(b""), entry_lines(b"")) == (b"", [], [])
    with pytest.raises(ValueError, match="28"):
        bulk_entries(["short"], [b"{}"])
