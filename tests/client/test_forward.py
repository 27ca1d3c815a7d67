"""The sender against real sockets: acks byte for byte, resends under the same chunk id, errors that say why."""

from __future__ import annotations

import base64
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from mcp_ingest.client import ForwardSender, SendError
from mcp_ingest.client.forward import pack
from mcp_ingest.codecs.forward import Decoder, Frame, encode_ack
from mcp_ingest.codecs.forward_entries import decode_entries

Answer = Callable[[Frame], bytes | None]
EVENTS: list[tuple[int, dict[str, Any]]] = [(1_700_000_000_000_000_001, {"message": "one"}), (0, {"message": "two"})]


class Receiver:
    """Accepts connections one after the other; `answers` are used up frame by frame, None closes without one."""

    def __init__(self, answers: list[Answer]) -> None:
        self.frames: list[Frame] = []
        self.connections = 0
        self._answers = answers
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])

    def run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with connection:
                self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        decoder = Decoder()
        while data := connection.recv(65536):
            decoder.feed(data)
            for frame in decoder:
                self.frames.append(frame)
                answer = self._answers.pop(0)(frame) if self._answers else _ack(frame)
                if answer is None:
                    return
                for at in range(len(answer)):  # in as many pieces as the network may make of it
                    connection.sendall(answer[at : at + 1])

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def _ack(frame: Frame) -> bytes:
    return b"" if frame.option.chunk is None else encode_ack(frame.option.chunk)


@contextmanager
def receiving(*answers: Answer) -> Iterator[Receiver]:
    receiver = Receiver(list(answers))
    thread = threading.Thread(target=receiver.run)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.close()
        thread.join(10)


def _events(frame: Frame) -> list[tuple[int, dict[str, Any]]]:
    (entries,) = decode_entries(frame)
    return list(zip(entries.times, entries.records, strict=True))


@pytest.mark.parametrize("compressed", ["text", "gzip", "zstd"])
def test_batches_arrive_over_one_connection(compressed: Any) -> None:
    """Each batch is one frame with a random chunk id of its own, and `send` returns when it is acknowledged."""
    with receiving() as receiver:
        with ForwardSender("127.0.0.1", receiver.port, compressed=compressed) as sender:
            sender.send("mcp", EVENTS)
            sender.send("mcp.other", EVENTS[:1])
            sender.send("mcp", [])
        assert [_events(frame) for frame in receiver.frames] == [EVENTS, EVENTS[:1]]
        assert [frame.tag for frame in receiver.frames] == ["mcp", "mcp.other"]
        assert receiver.connections == 1
        chunks = {frame.option.chunk for frame in receiver.frames}
        assert [len(base64.b64decode(chunk or b"")) for chunk in chunks] == [16, 16]


@pytest.mark.parametrize(
    "answer",
    [
        lambda frame: None,
        lambda frame: encode_ack(b"of another chunk"),
        lambda frame: encode_ack(frame.option.chunk + b"\n"),
        lambda frame: b"\xc1",
        lambda frame: b"\x81\xa3ack\xc0",
    ],
    ids=["closed", "another", "almost", "garbage", "nil"],
)
def test_without_its_ack_a_chunk_is_sent_again(answer: Answer) -> None:
    """The same frame with the same chunk id goes over a new connection."""
    with receiving(answer, answer) as receiver:
        with ForwardSender("127.0.0.1", receiver.port, timeout=5) as sender:
            sender.send("mcp", EVENTS)
        assert receiver.connections == 3
        first, second, third = receiver.frames
        assert first == second == third


def test_an_ack_that_stays_incomplete_is_none() -> None:
    """After the timeout the sentence says that there was no answer."""
    with (
        receiving(lambda frame: _ack(frame)[:-1]) as receiver,
        ForwardSender("127.0.0.1", receiver.port, timeout=0.2, attempts=1) as sender,
        pytest.raises(SendError, match=r"no answer within 0\.2 s"),
    ):
        sender.send("mcp", EVENTS)


def test_nobody_there_is_a_clear_error() -> None:
    """The sentence names the address and why, after all attempts."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(SendError, match=rf"127\.0\.0\.1:{port}: not sent, 2 attempts: Connection refused"):
        ForwardSender("127.0.0.1", port, attempts=2).send("mcp", EVENTS)
    assert time.monotonic() - started >= 0.1


def test_a_peer_that_never_acknowledges_is_a_clear_error() -> None:
    """After the last attempt nobody knows what became of the batch, and the error says so."""
    with (
        receiving(*[lambda frame: None] * 3) as receiver,
        ForwardSender("127.0.0.1", receiver.port) as sender,
        pytest.raises(SendError, match="without an acknowledgement"),
    ):
        sender.send("mcp", EVENTS)


def test_a_connection_that_was_closed_meanwhile_is_opened_again() -> None:
    """The receiver's restart between two batches costs nothing."""
    with receiving(_ack) as first:
        sender = ForwardSender("127.0.0.1", first.port)
        sender.send("mcp", EVENTS)
        assert sender._socket is not None
        sender._socket.shutdown(socket.SHUT_RDWR)
        sender.send("mcp", EVENTS)
        sender.close()
        assert first.connections == 2


def test_without_ack_nothing_is_awaited() -> None:
    """The frame has no chunk id, and no answer is read."""
    with receiving() as receiver:
        with ForwardSender("127.0.0.1", receiver.port, ack=False) as sender:
            sender.send("mcp", EVENTS)
        while not receiver.frames:
            time.sleep(0.01)
        assert receiver.frames[0].option.chunk is None


def test_odd_values_become_text() -> None:
    """What MessagePack has not got is sent as text instead of failing the batch."""
    packed = pack([(0, {"when": datetime(2024, 1, 1, tzinfo=UTC), "who": object, "some": {2}, "big": 2**70})])
    assert b"class 'object'" in packed
    assert str(2**70).encode() in packed
    with pytest.raises(ValueError, match="no time"):
        pack([(-1, {})])
