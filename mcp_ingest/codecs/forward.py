"""The Fluentd forward protocol, v1 and v1.5, sans I/O: bytes into frames, values into bytes, for both directions.

A frame is found without decoding its entries: they stay packed until `forward_entries.decode_entries` takes
them slice by slice. Which of the modes a frame is in is told by the type of its second element, never by its
length. JSON on the port is taken as well: the first byte of a connection (`{` or `[`) decides for all of it.
Sources: https://github.com/fluent/fluentd/wiki/Forward-Protocol-Specification-v1 (and v1.5), Fluentd's
in_forward and out_forward, Fluent Bit's in_forward and out_forward.
"""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from typing import Any, Literal

import msgspec
import orjson
from msgspec.msgpack import Ext

from mcp_ingest.codecs import values
from mcp_ingest.codecs.compression import compress_gzip, compress_zstd
from mcp_ingest.codecs.forward_json import JsonFrames
from mcp_ingest.codecs.messagepack import HEADER_BYTES, Extent, array_header, unpack, value_lengths
from mcp_ingest.errors import DecodeError, TooLargeError

MAX_FRAME_BYTES = 256 * 2**20
MAX_OPTION_BYTES = 2**20
MAX_TAG_BYTES = 64 * 1024
_PLACE_BYTES = 32 * 1024  # of a packed frame still to come, for it to get a place of its own
_MAPPED = 4 * 2**20  # from this size on the place is a mapping: pages are taken as they come, and given back at once
_HANDED_OVER = 2**20  # from this size on a frame's bytes are not copied: the buffer is handed over and replaced


class Mode(Enum):
    """How a frame holds its entries; a compressed PackedForward is PACKED with an option that says so."""

    MESSAGE = "message"
    FORWARD = "forward"
    PACKED = "packed"


class Option(msgspec.Struct, frozen=True):
    """What a frame's option map says, as far as it is known; `chunk` in the bytes that the ack must repeat."""

    chunk: bytes | None = None
    size: int = 0  # a hint: may be missing or wrong
    compressed: str = "text"
    signal: int = 0  # 0 logs, 1 metrics, 2 traces, 3 blobs, 4 profiles: only logs are entries
    metadata: dict[str, Any] | None = None  # of Message mode only


NO_OPTION = Option()


class Frame(msgspec.Struct, frozen=True):
    """A tag and its entries, still packed: one behind the other, without an array around them.

    `count` is how many they are where the frame says so reliably (not in PACKED); `length` is the whole
    frame's in bytes. `roomy` is, where it was read to a place of its own, the payload behind `HEADER_BYTES` that may
    be written over: an array header goes there, and the entries need not be copied to be decoded.
    """

    tag: str
    mode: Mode
    payload: bytes | memoryview
    option: Option
    count: int | None
    length: int
    roomy: memoryview | None = None


_Found = Frame | Literal["heartbeat"] | None


class Decoder:
    """Finds frames in the bytes of one connection: `feed` them, then iterate until it stops.

    Heartbeats (nil, `["", []]`) are passed over. DecodeError means that nothing behind can be trusted,
    TooLargeError that a frame is over `max_frame_bytes`. Holds no more than one unfinished frame and what was
    fed last. `needed` is the length of the unfinished frame, as far as it is known.
    """

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self.max_frame_bytes = max_frame_bytes
        self.needed = 0
        self.is_json = False
        self._buffer = bytearray()
        self._fed = 0
        self._unfinished: _Unfinished | _Placed | None = None
        self._lengths: deque[int] = deque()  # of the complete values at the buffer's beginning, found in one pass
        self._json: JsonFrames | None = None
        self._begun = False

    @property
    def buffered(self) -> int:
        """Bytes held of a frame that is not complete."""
        placed = self._unfinished
        return len(self._buffer) + (placed.filled if isinstance(placed, _Placed) else 0)

    def feed(self, data: bytes | memoryview) -> None:
        """Take what was read."""
        self._buffer += data
        self._fed = len(data)
        if not self._begun and data:
            self._begun = True
            self.is_json = data[:1] in (b"{", b"[")
            self._json = JsonFrames() if self.is_json else None

    def place(self) -> memoryview | None:
        """Where the rest of a large packed frame's body is to be read to, then `filled` told; None: `feed` it."""
        frame = self._unfinished
        if isinstance(frame, _Unfinished) and (frame.body_end or 0) - len(self._buffer) >= _PLACE_BYTES:
            frame = self._unfinished = _Placed(frame, self._buffer)
            self._buffer = bytearray()
        return memoryview(frame.bytes)[frame.filled :] if isinstance(frame, _Placed) and frame.missing else None

    def filled(self, count: int) -> None:
        """So many bytes were read to the `place`."""
        assert isinstance(self._unfinished, _Placed)
        self._unfinished.filled += count

    def complete(self) -> tuple[Mode, int, int] | None:
        """The mode of the first whole frame that is held, how many values are whole, and their length; None: none.

        What is held of a frame that had only begun is looked at again, once what came is as much.
        """
        if self._json or isinstance(self._unfinished, _Placed) or 2 * self._fed < len(self._buffer):
            return None
        if self._unfinished and (self._unfinished.body_end or 0) > len(self._buffer):
            return None
        try:
            head = _read_head(self._buffer)
        except DecodeError:  # a heartbeat, or what the careful way refuses
            return None
        if head is None or (head.body_end or 0) > len(self._buffer):
            return None
        self._unfinished = None
        self._lengths = value_lengths(self._buffer)
        return (head.mode, len(self._lengths), sum(self._lengths)) if self._lengths else None

    def peek(self, length: int) -> bytes:
        """The first bytes that are held, behind the header of an array of the values that they are."""
        with memoryview(self._buffer) as view:
            return b"".join((array_header(len(self._lengths)), view[:length]))

    def drop(self, length: int) -> None:
        """Forget the first bytes: they were frames, and are taken."""
        del self._buffer[:length]
        self._lengths.clear()

    def __iter__(self) -> Iterator[Frame]:
        if self._buffer and self._unfinished is None and not self._json and len(self._buffer) <= _HANDED_OVER:
            self._lengths = self._lengths or value_lengths(self._buffer)
        while self.buffered:
            found = self._next_json(self._json) if self._json else self._next()
            if found is None:
                self._check(max(self.needed, self.buffered))
                return
            if isinstance(found, Frame):
                yield found

    def _next(self) -> _Found:
        known = self._lengths.popleft() if self._lengths else None
        if self._unfinished is None and self._buffer[0] == 0xC0:
            del self._buffer[0]
            return "heartbeat"
        frame = self._unfinished = self._unfinished or _read_head(self._buffer)
        if frame is None:
            self.needed = 0
            return None
        end = frame.find(self._buffer, known)
        if end is None:
            self.needed = frame.body_end or 0
            return None
        self._check(end + (len(frame.bytes) if isinstance(frame, _Placed) else 0))
        self._unfinished, self.needed = None, 0
        return self._cut_placed(frame, end) if isinstance(frame, _Placed) else self._cut(frame, end)

    def _cut_placed(self, placed: _Placed, end: int) -> Frame:
        option = _read_option(unpack(self._buffer[:end])) if end else NO_OPTION
        del self._buffer[:end]
        whole, body = memoryview(placed.bytes), placed.frame.body
        roomy = whole[body - HEADER_BYTES :] if body >= HEADER_BYTES else None
        return Frame(placed.frame.tag, Mode.PACKED, whole[body:].toreadonly(), option, None, len(whole) + end, roomy)

    def _cut(self, frame: _Unfinished, end: int) -> _Found:
        buffer, body_end = self._buffer, frame.body_end or end
        option = _read_option(unpack(buffer[body_end:end])) if body_end < end else NO_OPTION
        payload: bytes | memoryview
        if end < _HANDED_OVER:
            with memoryview(buffer) as view:
                payload = bytes(view[frame.body : body_end])
            del buffer[:end]
        else:
            self._buffer = buffer[end:]
            payload = memoryview(buffer)[frame.body : body_end].toreadonly()
        if not frame.tag and not payload:
            return "heartbeat"
        if frame.mode is Mode.MESSAGE:
            payload = b"\x92" + payload
        return Frame(frame.tag, frame.mode, payload, option, frame.count, end)

    def _next_json(self, frames: JsonFrames) -> _Found:
        end = frames.find(self._buffer)
        if end is None:
            return None
        self._check(end)
        text = bytes(self._buffer[:end])
        del self._buffer[:end]
        message = frames.decode(text)
        if message is None:
            return "heartbeat"
        mode = Mode.MESSAGE if message.is_message else Mode.FORWARD
        return Frame(message.tag, mode, message.payload, _read_option(message.option), message.count, end)

    def _check(self, length: int) -> None:
        if length > self.max_frame_bytes:
            raise TooLargeError(f"a frame of at least {length} bytes, the limit is {self.max_frame_bytes}")


# --- the beginning and the end of a frame ------------------------------------------------------------------


class _Unfinished:
    """A frame whose beginning is read: where its entries start, and where they end as soon as that is known."""

    __slots__ = ("_extent", "body", "body_end", "count", "has_option", "mode", "tag")

    def __init__(self, tag: str, mode: Mode, body: int, body_end: int | None, count: int | None, option: bool) -> None:
        self.tag = tag
        self.mode = mode
        self.body = body
        self.body_end = body_end
        self.count = count
        self.has_option = option
        self._extent: Extent | None = None

    def find(self, buffer: bytearray, known: int | None) -> int | None:
        """The frame's end; None until the buffer has it; `known` where it was found before."""
        if self.body_end is None:
            self.body_end = self._find_body_end(buffer) if known is None or self.has_option else known
        if self.body_end is None or len(buffer) < self.body_end:
            return None
        if not self.has_option:
            return self.body_end
        self._extent = self._extent or Extent(self.body_end, 1)
        return _option_end(self._extent, buffer, self.body_end)

    def _find_body_end(self, buffer: bytearray) -> int | None:
        inside = 2 if self.mode is Mode.MESSAGE else self.count or 0
        self._extent = self._extent or Extent(self.body, inside)
        end = self._extent.find(buffer)
        if end is not None:
            self._extent = None
        return end


class _Placed:
    """A packed frame whose body is read to a place of its own; its option follows in the decoder's buffer."""

    __slots__ = ("_extent", "body_end", "bytes", "filled", "frame")

    def __init__(self, frame: _Unfinished, begun: bytearray) -> None:
        self.frame = frame
        self.body_end = frame.body_end
        size = frame.body_end or 0
        self.bytes: bytearray | mmap.mmap = (
            mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANON) if size >= _MAPPED else bytearray(size)
        )
        self.bytes[: len(begun)] = begun
        self.filled = len(begun)
        self._extent = Extent(0, 1)

    @property
    def missing(self) -> int:
        """Bytes of the body that are still to come."""
        return len(self.bytes) - self.filled

    def find(self, buffer: bytearray, known: int | None) -> int | None:
        """The end of the option in the buffer; None until all is there."""
        if self.missing or not self.frame.has_option:
            return None if self.missing else 0
        return _option_end(self._extent, buffer, 0)


def _option_end(extent: Extent, buffer: bytearray, start: int) -> int | None:
    end = extent.find(buffer)
    if (end or len(buffer)) - start > MAX_OPTION_BYTES:
        raise DecodeError(f"an option of more than {MAX_OPTION_BYTES} bytes")
    return end


_Kind = Literal["array", "raw", "other"]

#: First bytes of arrays, str and bin with a length field, and its width; short ones carry it in the first byte.
_LENGTHS: dict[int, tuple[_Kind, int]] = {
    0xDC: ("array", 2), 0xDD: ("array", 4),
    0xC4: ("raw", 1), 0xC5: ("raw", 2), 0xC6: ("raw", 4),
    0xD9: ("raw", 1), 0xDA: ("raw", 2), 0xDB: ("raw", 4),
}  # fmt: skip


def _header(buffer: bytearray, at: int) -> tuple[_Kind, int, int] | None:
    """(kind, length, offset of the body) of the value that begins here; None until the buffer has that much."""
    if at >= len(buffer):
        return None
    first = buffer[at]
    if 0x90 <= first <= 0x9F:
        return "array", first & 0x0F, at + 1
    if 0xA0 <= first <= 0xBF:
        return "raw", first & 0x1F, at + 1
    kind, width = _LENGTHS.get(first, ("other", 0))
    body = at + 1 + width
    if body > len(buffer):
        return None
    return kind, int.from_bytes(buffer[at + 1 : body], "big"), body


def _read_head(buffer: bytearray) -> _Unfinished | None:
    """The beginning of a frame; None while it is not all there; DecodeError if it is none."""
    if (outer := _header(buffer, 0)) is None:
        return None
    kind, arity, at = outer
    if kind != "array":
        raise DecodeError(_guess(bytes(buffer[:4])))
    if not 2 <= arity <= 4:
        raise DecodeError(f"an array of {arity} where a message has 2 to 4 elements")
    if (tag := _header(buffer, at)) is None:
        return None
    kind, length, at = tag
    if kind != "raw" or length > MAX_TAG_BYTES:
        raise DecodeError("the tag is no string" if kind != "raw" else f"a tag of {length} bytes")
    if (second := _header(buffer, at + length)) is None:
        return None
    return _unfinished(bytes(buffer[at : at + length]).decode("utf-8", "replace"), arity, at + length, second)


def _unfinished(tag: str, arity: int, time_at: int, second: tuple[_Kind, int, int]) -> _Unfinished:
    """The mode is told by the type of the second element."""
    kind, length, body = second
    mode = {"array": Mode.FORWARD, "raw": Mode.PACKED, "other": Mode.MESSAGE}[kind]
    most = 4 if mode is Mode.MESSAGE else 3
    if not most - 1 <= arity <= most:
        raise DecodeError(f"an array of {arity} in {mode.value} mode, which has {most - 1} or {most} elements")
    match mode:
        case Mode.FORWARD:
            return _Unfinished(tag, mode, body, None, length, arity == most)
        case Mode.PACKED:
            return _Unfinished(tag, mode, body, body + length, None, arity == most)
        case _:
            return _Unfinished(tag, mode, time_at, None, 1, arity == most)


def _guess(head: bytes) -> str:
    """What a stranger on the port speaks, as far as its first bytes tell."""
    if head[:1] == b"\x16":
        return "not the forward protocol but a TLS handshake: this port is without TLS"
    if head[:1].isupper():
        return "not the forward protocol but text, an HTTP request perhaps"
    return f"not the forward protocol: it begins with 0x{head[:1].hex()}"


def _read_option(option: Any) -> Option:
    """What is known of an option; Docker sends nil, and unknown keys or values of a wrong type say nothing."""
    if not isinstance(option, dict):
        return NO_OPTION
    chunk, size, signal = option.get("chunk"), option.get("size"), option.get("fluent_signal")
    compressed, metadata = option.get("compressed"), option.get("metadata")
    return Option(
        chunk.encode("utf-8", "surrogateescape") if isinstance(chunk, str) else chunk if type(chunk) is bytes else None,
        size if type(size) is int else 0,
        compressed if isinstance(compressed, str) else "text",
        signal if type(signal) is int else 0,
        values.clean_value(metadata)[0] if metadata and isinstance(metadata, dict) else None,
    )


# --- values into bytes -------------------------------------------------------------------------------------

Entry = tuple[int, dict[str, Any]]  # nanoseconds since 1970, record


def event_time(time_ns: int) -> Ext:
    """An EventTime: extension type 0, seconds and nanoseconds as two big-endian unsigned 32-bit integers."""
    seconds, nanoseconds = divmod(time_ns, 10**9)
    if not 0 <= seconds < 2**32:
        raise ValueError(f"{time_ns} ns since 1970 is no time that an EventTime can say")
    return Ext(0, seconds.to_bytes(4, "big") + nanoseconds.to_bytes(4, "big"))


def pack_entries(entries: Iterable[Entry]) -> bytes:
    """Entries one behind the other, as PackedForward holds them."""
    encode = msgspec.msgpack.encode
    return b"".join([encode((event_time(time_ns), record)) for time_ns, record in entries])


def encode_message(tag: str, time_ns: int, record: dict[str, Any], chunk: bytes | None = None) -> bytes:
    """One event in Message mode."""
    body = [msgspec.msgpack.encode(part) for part in (tag, event_time(time_ns), record)]
    return _array(body, chunk, {})


def encode_forward(tag: str, entries: Iterable[Entry], chunk: bytes | None = None) -> bytes:
    """Several events in Forward mode: an array of entries."""
    packed = [(event_time(time_ns), record) for time_ns, record in entries]
    return _array([msgspec.msgpack.encode(tag), msgspec.msgpack.encode(packed)], chunk, {"size": len(packed)})


def encode_packed(
    tag: str,
    packed: bytes,
    *,
    compressed: Literal["text", "gzip", "zstd"] = "text",
    chunk: bytes | None = None,
    size: int | None = None,
) -> bytes:
    """Entries of `pack_entries` in PackedForward mode, `size` of them; compressed here where that is asked for."""
    squeeze = {"gzip": compress_gzip, "zstd": compress_zstd}.get(compressed)
    payload = squeeze(packed) if squeeze else packed
    option: dict[str, Any] = {} if size is None else {"size": size}
    return _array(
        [msgspec.msgpack.encode(tag), msgspec.msgpack.encode(payload)], chunk, {**option, "compressed": compressed}
    )


def _array(parts: list[bytes], chunk: bytes | None, option: dict[str, Any]) -> bytes:
    """A message of these parts; the chunk id goes in as a str, whatever its bytes are."""
    count = len(option) + (chunk is not None)
    if count:
        known = b"".join(msgspec.msgpack.encode(item) for pair in option.items() for item in pair)
        parts = [*parts, bytes([0x80 | count]) + known + (b"" if chunk is None else b"\xa5chunk" + _str(chunk))]
    return bytes([0x90 | len(parts)]) + b"".join(parts)


def _str(raw: bytes) -> bytes:
    """A MessagePack str of these bytes, which need not be UTF-8."""
    length = len(raw)
    if length < 32:
        return bytes([0xA0 | length]) + raw
    width, first = (1, 0xD9) if length < 2**8 else (2, 0xDA) if length < 2**16 else (4, 0xDB)
    return bytes([first]) + length.to_bytes(width, "big") + raw


def encode_ack(chunk: bytes, *, as_json: bool = False) -> bytes:
    """The answer to a frame with that chunk id, in the serialisation of the request.

    A str with the very bytes of the request, the line end of Ruby's `encode64` too: Fluent Bit compares them.
    """
    if as_json:
        return orjson.dumps({"ack": chunk.decode("utf-8", "replace")})
    return b"\x81\xa3ack" + _str(chunk)


def encode_acks(chunks: Sequence[bytes]) -> bytes:
    """The answers to frames with these chunk ids, one behind the other, in MessagePack."""
    if len(lengths := set(map(len, chunks))) == 1:
        header = encode_ack(chunks[0])[: -lengths.pop() or None]
        return header + header.join(chunks)
    return b"".join(map(encode_ack, chunks))


def decode_ack(data: bytes) -> bytes | None:
    """The chunk id that an answer acknowledges; None while it is not complete; DecodeError if it is none."""
    if not data or Extent(0, 1).find(data) is None:
        return None
    answer = unpack(data)
    chunk = answer.get("ack") if isinstance(answer, dict) else None
    if isinstance(chunk, str):
        return chunk.encode("utf-8", "surrogateescape")
    if not isinstance(chunk, bytes):
        raise DecodeError("the answer is no acknowledgement")
    return chunk
