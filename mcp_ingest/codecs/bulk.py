"""Elasticsearch's `_bulk`: columns to a request's body, an answer's bytes to its items.

A body is newline-delimited JSON, for each event a line that says what to do and the event's own line; the last
line ends with a newline, too (Elasticsearch's "Bulk API" reference). The operation is always `create`: the same
`_id` a second time is answered with 409 and stores nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from mcp_ingest.errors import DecodeError

#: Keeps the answer small; without `status` the list would shrink and the positions would be lost.
FILTER_PATH = "took,errors,items.*.status,items.*.error,items.*._index,items.*.failure_store"
_LONGEST_TEXT = 500
#: What follows these words in a reason is the document itself, or what the reader knows.
_ECHOES = (
    " in document with id ", " Preview of field's value", "\n at [Source", " For input string:", " Numeric value (",
    " failed to parse date field [", " for REST request [", " The prefix of the first immense term",
)  # fmt: skip


# --- the request -------------------------------------------------------------------------------------------


def bulk_body(destinations: Sequence[str], ids: Sequence[str], lines: Sequence[bytes]) -> bytes:
    """The body that creates each line under its id in its destination.

    Ids are base64url, destinations names of indices or data streams: neither holds a newline. All events of one
    destination cost one join, one encode and one split; a mixture formats each event's line.
    """
    if not ids:
        return b""
    if len(set(destinations)) == 1:
        head = _head(destinations[0])
        actions = head + ('"}}\n' + head).join(ids) + '"}}'
    else:
        heads = {name: _head(name) for name in set(destinations)}
        actions = "\n".join([heads[name] + event_id + '"}}' for name, event_id in zip(destinations, ids, strict=True)])
    pieces: list[bytes] = [b""] * (2 * len(ids) + 1)
    pieces[0:-1:2] = actions.encode().split(b"\n")
    pieces[1::2] = lines
    return b"\n".join(pieces)


def _head(destination: str) -> str:
    return '{"create":{"_index":' + orjson.dumps(destination).decode() + ',"_id":"'


# --- events as they are stored -----------------------------------------------------------------------------

#: What stands before and behind an id in an entry's first line: the destination is the request's, not the event's.
ENTRY_HEAD, ENTRY_TAIL = b'{"create":{"_id":"', b'"}}\n'
_ID_LENGTH = 28
#: Bytes of an entry beside its line: the action, and two line ends.
ENTRY_BYTES = len(ENTRY_HEAD) + _ID_LENGTH + len(ENTRY_TAIL) + 1


def bulk_entries(ids: Sequence[str], lines: Sequence[bytes]) -> bytes:
    """The body that creates each line under its id in the index that the request's path names.

    ValueError when an id has not 28 characters.
    """
    if ids and set(map(len, ids)) != {_ID_LENGTH}:
        raise ValueError(f"an id has not {_ID_LENGTH} characters")
    return b"".join([
        b"".join((ENTRY_HEAD, event_id.encode("ascii"), ENTRY_TAIL, line, b"\n"))
        for event_id, line in zip(ids, lines, strict=True)
    ])  # fmt: skip


def entry_ids(entries: bytes) -> list[str]:
    """The ids of such a body."""
    start, end = len(ENTRY_HEAD), len(ENTRY_HEAD) + _ID_LENGTH
    return [action[start:end].decode("ascii") for action in entries.split(b"\n")[:-1:2]]


def entry_lines(entries: bytes) -> list[bytes]:
    """The lines of such a body."""
    return entries.split(b"\n")[1::2]


# --- the answer --------------------------------------------------------------------------------------------


class BulkError(NamedTuple):
    """An error as the server words it; all are empty strings where it said nothing."""

    type: str = ""
    reason: str = ""
    cause: str = ""

    @classmethod
    def of(cls, error: object) -> BulkError:
        """From the `error` of an item or of a whole answer; a proxy's or an old server's may be a mere string."""
        if isinstance(error, str):
            return cls("", error)
        if not isinstance(error, dict):
            return cls()
        cause = error.get("caused_by")
        below = str(cause.get("reason") or "") if isinstance(cause, dict) else ""
        return cls(str(error.get("type") or ""), str(error.get("reason") or ""), below)

    @property
    def text(self) -> str:
        """Type and reason in one short line, without the values that the server echoes."""
        reason, cause = _without_echo(self.reason), _without_echo(self.cause)
        parts = [part for part in (self.type, reason, "" if cause in reason else cause) if part]
        return ": ".join(parts)[:_LONGEST_TEXT]


def _without_echo(reason: str) -> str:
    for echo in _ECHOES:
        reason = (" " + reason).partition(echo)[0].strip()
    return " ".join(reason.split())


def bulk_error(body: bytes) -> BulkError:
    """The error of a whole answer; empty for one that is not Elasticsearch's JSON."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return BulkError()
    return BulkError.of(answer.get("error")) if isinstance(answer, dict) else BulkError()


def all_created(body: bytes, count: int) -> bool:
    """Whether every event was stored where it should be, seen from the bytes alone: the common case."""
    return b'"errors":false' in body and body.count(b'"status":20') == count and b'"failure_store"' not in body


def bulk_items(body: bytes) -> list[dict[str, Any]]:
    """The items in the request's order, each without the name of its operation; DecodeError if there are none."""
    try:
        items = [next(iter(item.values())) for item in orjson.loads(body)["items"]]
    except orjson.JSONDecodeError as error:
        raise DecodeError(f"no JSON: {error}") from None
    except (KeyError, TypeError, AttributeError, StopIteration):
        raise DecodeError("JSON, but not that of a bulk answer") from None
    if not all(isinstance(item, dict) for item in items):
        raise DecodeError("JSON, but not that of a bulk answer")
    return items
