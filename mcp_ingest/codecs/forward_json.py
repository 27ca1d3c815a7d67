"""The forward protocol written in JSON: what Fluentd's in_forward takes when a connection begins with `{` or `[`.

A stream of arrays `[tag, time, record, option?]` or `[tag, [[time, record], …], option?]`, with or without white
space between them. The entries are written again as MessagePack, so that only one way leads on from here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import msgspec
import orjson

from mcp_ingest.errors import DecodeError

_OUTSIDE = re.compile(rb'["\[\]{}]')
_INSIDE = re.compile(rb'["\\]')
_SPACE = b" \t\r\n"


@dataclass(frozen=True, slots=True)
class Message:
    """One frame: its entries as MessagePack, one behind the other; `option` as it was, a map or nothing."""

    tag: str
    is_message: bool
    payload: bytes
    count: int
    option: Any


class JsonFrames:
    """Finds the end of each top-level value in a buffer that grows, looking at each byte once."""

    def __init__(self) -> None:
        self._offset = 0
        self._depth = 0
        self._in_string = False

    def find(self, buffer: bytearray) -> int | None:
        """The offset behind the first value; None until the buffer has it. White space before it is deleted."""
        if not self._depth and not self._begins(buffer):
            return None
        while match := (_INSIDE if self._in_string else _OUTSIDE).search(buffer, self._offset):
            self._offset = match.end()
            self._take(match[0])
            if not self._depth:
                end, self._offset = self._offset, 0
                return end
        self._offset = max(self._offset, len(buffer))
        return None

    def _begins(self, buffer: bytearray) -> bool:
        del buffer[: len(buffer) - len(buffer.lstrip(_SPACE))]
        if buffer and buffer[0] not in b"[{":
            raise DecodeError(f"a JSON array was to follow, not {bytes(buffer[:1])!r}")
        return bool(buffer)

    def _take(self, token: bytes) -> None:
        if token == b'"':
            self._in_string = not self._in_string
        elif token == b"\\":
            self._offset += 1
        else:
            self._depth += 1 if token in b"[{" else -1

    def decode(self, text: bytes) -> Message | None:
        """The frame that a value is; None for a heartbeat (`["", []]`); DecodeError if it is no frame."""
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise DecodeError(f"not JSON: {error}") from None
        match value:
            case ["", []]:
                return None
            case [str(tag), list(entries)] | [str(tag), list(entries), _]:
                packed = b"".join(map(msgspec.msgpack.encode, entries))
                return Message(tag, False, packed, len(entries), value[2] if len(value) == 3 else None)
            case [str(tag), int() | float() | None as time, record] | [
                str(tag),
                int() | float() | None as time,
                record,
                _,
            ]:
                packed = msgspec.msgpack.encode([time, record])
                return Message(tag, True, packed, 1, value[3] if len(value) == 4 else None)
        raise DecodeError("JSON, but none of the forward protocol's arrays")
