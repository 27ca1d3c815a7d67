"""What a `_bulk` answer means for each event: a pure function, read off a table.

Sources: Elasticsearch's "Bulk API" reference (each item has a status of its own, in the order of the request),
the failure store's documentation (`failure_store: used` comes with `errors: false`), and what Elasticsearch 8.19
and OpenSearch 2.19 and 3.8 were seen to answer. A *whole* answer is judged by its HTTP status, an *item* by its
own status and its error's type.
"""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from mcp_ingest.codecs.bulk import BulkError, all_created, bulk_error, bulk_items
from mcp_ingest.errors import DecodeError
from mcp_ingest.outputs.elasticsearch.reasons import field_of
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
    Verdicts,
)

#: 400s that tell of the set-up and not of the document: (error type, part of the reason).
_SETUP = (
    ("index_closed_exception", ""),
    ("validation_exception", "shards open"),
    ("illegal_argument_exception", "pipeline with id ["),
    ("illegal_argument_exception", "no write index is defined"),
    ("illegal_argument_exception", "only write ops with an op_type of create"),
)
#: 503s of an item that tell of its index alone: no copy of the shard is there to write to.
_NO_SHARD = frozenset({"unavailable_shards_exception", "no_shard_available_action_exception"})
#: 429s for want of memory, not of threads: less at once may be taken. OpenSearch has no type of its own for the second.
_NO_MEMORY = ("circuit_breaking_exception", "coordinating_and_primary_bytes", "coordinating_operation_bytes")
#: A server that asks for more seconds has another clock, or means something else.
_LONGEST_WAIT = 3600.0
#: The error types that are a label of the ledger by their own name; all others are `refused`.
_KINDS = frozenset({
    "document_parsing_exception", "illegal_argument_exception", "invalid_index_name_exception",
    "mapper_parsing_exception", "strict_dynamic_mapping_exception",
})  # fmt: skip


def verdicts(
    status: int,
    body: bytes,
    count: int,
    *,
    retry_after: str | None = None,
    now: float = 0.0,
    peer: str = "Elasticsearch",
    login: str = "the request",
) -> Verdicts:
    """What the answer to a bulk of `count` events means.

    `retry_after` is the header of that name, `now` seconds since 1970 for one that is a date, `peer` and `login` are
    the words for the server and for who asks.
    """
    after = _seconds(retry_after, now)
    if status == 200:
        return _items(body, count, after, peer)
    return _whole(status, bulk_error(body), after, peer, login)


# --- the whole answer --------------------------------------------------------------------------------------


def _whole(status: int, error: BulkError, after: float | None, peer: str, login: str) -> Verdicts:
    said = f"{status} {error.text}".rstrip()
    if status == 413:
        return TooLarge(f"{peer} takes no request of this size: {said}")
    if status in (401, 403):
        return ParkAll(f"{peer} refuses {login}: {said}")
    if status == 429 and error.type != "cluster_block_exception":
        return Unknown(f"{peer} is overloaded: {said}", after, overloaded=True, smaller=_wants_memory(error))
    if status == 400 and error.type and error.type != "media_type_header_exception":
        return Malformed(f"{peer} refuses the request: {said}")
    if status == 408 or status >= 500 or 200 < status < 300:
        return Unknown(f"{peer} answered {said}", after, overloaded=status == 503)
    return ParkAll(f"{peer} takes no bulk requests: {said}")


def _seconds(header: str | None, now: float) -> float | None:
    """`Retry-After` in both its forms, seconds and a date (RFC 9110 10.2.3), up to an hour; None if it is neither."""
    if header is None:
        return None
    if header.isascii() and header.isdigit():
        return min(float(header), _LONGEST_WAIT)
    try:
        date = parsedate_to_datetime(header)
        return min(max(date.replace(tzinfo=date.tzinfo or UTC).timestamp() - now, 0.0), _LONGEST_WAIT)
    except (ValueError, OverflowError):
        return None


# --- item by item ------------------------------------------------------------------------------------------


def _items(body: bytes, count: int, after: float | None, peer: str) -> Verdicts:
    if all_created(body, count):
        return AllDelivered()
    try:
        items = bulk_items(body)
    except DecodeError as error:
        return Unknown(f"{peer} gave an answer that cannot be read: {error}")
    if len(items) != count:
        return Unknown(f"{peer} answered for {len(items)} of {count} events")
    each = [_item(item, after) for item in items]
    return AllDelivered() if all(verdict is DELIVERED for verdict in each) else Each(each)


def _item(item: dict[str, Any], after: float | None) -> Verdict:
    status = item.get("status")
    if status in (200, 201):
        return REDIRECTED if item.get("failure_store") == "used" else DELIVERED
    if status == 409:
        return DUPLICATE
    error = BulkError.of(item.get("error"))
    why = f"{status} {error.text}".rstrip()
    if status == 503 and error.type in _NO_SHARD:
        return Park(why)
    if not isinstance(status, int) or status == 408 or status >= 500:
        return Retry(why, after, overloaded=status == 503)
    if status == 429 and error.type != "cluster_block_exception":
        return Retry(why, after, overloaded=True, smaller=_wants_memory(error))
    if status == 429:
        return Park(why)
    if status in (401, 403, 404) or _tells_of_setup(error):
        return Park(why)
    return Refused(why, field_of(error), error.type if error.type in _KINDS else "refused")


def _wants_memory(error: BulkError) -> bool:
    return any(word in error.text for word in _NO_MEMORY)


def _tells_of_setup(error: BulkError) -> bool:
    return any(error.type == kind and part in error.reason for kind, part in _SETUP)
