"""Makes of any decoded value one that JSON can hold and orjson serialises.

orjson refuses bytes, keys that are not strings, lone surrogates, integers beyond 64 bits and deep nesting, and
writes NaN as null without a word. What is changed here is counted, never dropped.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import msgpack
from msgspec.msgpack import Ext

from mcp_ingest.errors import DecodeError

MAX_DEPTH = 100
TOO_DEEP = f"(nested deeper than {MAX_DEPTH} levels)"

_SURROGATES = re.compile("[\ud800-\udfff]")


def clean(record: Any) -> tuple[dict[str, Any], int]:
    """The record as JSON can hold it, and how many values and keys had to be changed.

    A string becomes `{"message": text}` (what PyPI's fluent-logger sends with a plain `logging.Formatter`);
    DecodeError for anything else that is not a map.
    """
    value, changed = clean_value(record)
    if isinstance(value, str) and isinstance(record, str | bytes):
        return {"message": value}, changed
    if not isinstance(value, dict):
        raise DecodeError(f"the record is {_name(record)}, not a map")
    return value, changed


def clean_value(value: Any) -> tuple[Any, int]:
    """Any value as JSON can hold it, and how many values and keys had to be changed.

    bytes become text (U+FFFD for what is not UTF-8), keys strings, integers beyond 64 bits, NaN and the
    infinities strings, extension types their hexadecimal digits or, where they are timestamps, ISO 8601;
    what lies deeper than 100 levels becomes a string that says so.
    """
    cleaner = _Cleaner()
    return cleaner.value(value, 0), cleaner.changed


def _name(value: Any) -> str:
    return {"NoneType": "nil", "list": "an array"}.get(type(value).__name__, f"of type {type(value).__name__}")


class _Cleaner:
    """Counts what it changes."""

    def __init__(self) -> None:
        self.changed = 0

    def value(self, value: Any, depth: int) -> Any:
        if value is None or value is True or value is False:
            return value
        handler = _HANDLERS.get(type(value))
        if handler is None:
            handler = next((h for kind, h in _HANDLERS.items() if isinstance(value, kind)), _Cleaner._other)
        return handler(self, value, depth)

    def _text(self, value: str, _depth: int) -> str:
        if value.isascii() or not _SURROGATES.search(value):
            return value
        self.changed += 1
        return _SURROGATES.sub("\ufffd", value)

    def _bytes(self, value: bytes, _depth: int) -> str:
        self.changed += 1
        return bytes(value).decode("utf-8", "replace")

    def _integer(self, value: int, _depth: int) -> int | str:
        if -(2**63) <= value < 2**64:
            return value
        self.changed += 1
        return hex(value) if value.bit_length() > 10_000 else str(value)  # str() of huge ones is refused

    def _float(self, value: float, _depth: int) -> float | str:
        if math.isfinite(value):
            return value
        self.changed += 1
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"

    def _array(self, value: list[Any], depth: int) -> Any:
        if depth >= MAX_DEPTH:
            self.changed += 1
            return TOO_DEEP
        return [self.value(item, depth + 1) for item in value]

    def _map(self, value: dict[Any, Any], depth: int) -> Any:
        if depth >= MAX_DEPTH:
            self.changed += 1
            return TOO_DEEP
        return {self._key(key): self.value(item, depth + 1) for key, item in value.items()}

    def _key(self, key: Any) -> str:
        if type(key) is str and key.isascii():
            return key
        text = self.value(key, 0)
        if isinstance(text, str):
            return text
        self.changed += 1
        names = {None: "null", True: "true", False: "false"}
        return names[text] if text is None or isinstance(text, bool) else str(text)

    def _extension(self, value: Any, _depth: int) -> str:
        self.changed += 1
        data = bytes(value.data)
        return (event_time(data) if value.code == 0 else None) or data.hex()

    def _timestamp(self, value: msgpack.Timestamp, _depth: int) -> str:
        self.changed += 1
        return iso_time(value.seconds, value.nanoseconds) or str(value)

    def _date(self, value: date, _depth: int) -> str:
        self.changed += 1
        return value.isoformat()

    def _other(self, value: Any, _depth: int) -> str:
        self.changed += 1
        return self._text(str(value), 0)


def event_time(data: bytes) -> str | None:
    """An EventTime's 8 bytes (seconds, nanoseconds) as ISO 8601 in UTC; None if they are none."""
    if len(data) != 8:
        return None
    return iso_time(*struct.unpack(">II", data))


def iso_time(seconds: int, nanoseconds: int) -> str | None:
    """ISO 8601 in UTC with nine decimals; None where the calendar has no such time."""
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z" if 0 <= nanoseconds < 10**9 else None


# The order matters for subclasses: ExtType is a tuple.
_HANDLERS: dict[type, Callable[[_Cleaner, Any, int], Any]] = {
    str: _Cleaner._text,
    int: _Cleaner._integer,
    float: _Cleaner._float,
    dict: _Cleaner._map,
    list: _Cleaner._array,
    bytes: _Cleaner._bytes,
    bytearray: _Cleaner._bytes,
    memoryview: _Cleaner._bytes,
    Ext: _Cleaner._extension,
    msgpack.ExtType: _Cleaner._extension,
    msgpack.Timestamp: _Cleaner._timestamp,
    date: _Cleaner._date,
    tuple: _Cleaner._array,
    set: _Cleaner._array,
    frozenset: _Cleaner._array,
}
