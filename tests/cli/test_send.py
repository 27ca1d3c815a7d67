"""`mcp-ingest send`: over a real socket, to a receiver that acknowledges or does not."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from mcp_ingest.cli import main
from mcp_ingest.cli.send import batches_of


class Receiver:
    """Takes PackedForward frames, notes their events and acknowledges the first `acks` of them."""

    def __init__(self, acks: int) -> None:
        self.acks = acks
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                with connection:
                    self.converse(connection)

    def converse(self, connection: socket.socket) -> None:
        data = b""
        while received := connection.recv(65536):
            data += received
            try:
                tag, entries, option = msgspec.msgpack.decode(data)
            except msgspec.DecodeError:
                continue
            data = b""
            if self.acks == 0:
                return
            self.acks -= 1
            self.events += [(tag, record) for record in _records(entries)]
            connection.sendall(msgspec.msgpack.encode({"ack": option["chunk"]}))


def _records(entries: bytes) -> Iterator[dict[str, Any]]:
    count = 1
    while True:  # entries stand one behind the other: read as an array of as many as there are
        try:
            found = msgspec.msgpack.decode(b"\xdd" + count.to_bytes(4, "big") + entries)
        except msgspec.DecodeError as error:
            if "truncated" in str(error):
                return
            count += 1
            continue
        yield from (record for _, record in found)
        return


@contextlib.contextmanager
def receiving(acks: int = 1000) -> Iterator[Receiver]:
    receiver = Receiver(acks)
    thread = threading.Thread(target=receiver.serve)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.socket.shutdown(socket.SHUT_RDWR)
        receiver.socket.close()
        thread.join()


def _send(port: int, *arguments: str, given: bytes | None = None) -> Result:
    return CliRunner().invoke(
        main, ["send", "--host", "127.0.0.1", "--port", str(port), "--timeout", "5", *arguments], input=given
    )


def test_one_text_is_one_event() -> None:
    """Words become a message under the tag that was given."""
    with receiving() as receiver:
        result = _send(receiver.port, "--tag", "mcp.x", "hello", "world")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"1 event acknowledged by 127.0.0.1:{receiver.port}\n"
    assert receiver.events == [("mcp.x", {"message": "hello world"})]


def test_what_the_help_says_becomes_of_a_text() -> None:
    """Each example of it sends the record that stands beside it."""
    shown = CliRunner().invoke(main, ["send", "--help"]).output
    examples = re.findall(r"^ +(?:echo (.+?) \| )?mcp-ingest (send .+?) {2,}(\{.*\})$", shown, re.MULTILINE)
    assert len(examples) == 5
    for piped, command, record in examples:
        with receiving() as receiver:
            given = (shlex.split(piped)[0] + "\n").encode() if piped else None
            assert _send(receiver.port, *shlex.split(command)[1:], given=given).exit_code == 0
        assert receiver.events == [("mcp", json.loads(record))], command


def test_a_record_is_sent_as_it_is() -> None:
    """`--record` takes an object."""
    with receiving() as receiver:
        assert _send(receiver.port, "--record", '{"a": {"b": [1, null]}}').exit_code == 0
    assert receiver.events == [("mcp", {"a": {"b": [1, None]}})]


def test_standard_input_and_files_are_lines(tmp_path: Path) -> None:
    """JSON objects become records, everything else a message; empty lines are nothing, bad UTF-8 is replaced."""
    lines = b'{"a": 1}\nplain text\r\n\n[1]\n\xff\n{"b"'
    expected = [{"a": 1}, {"message": "plain text"}, {"message": "[1]"}, {"message": "\ufffd"}, {"message": '{"b"'}]
    (tmp_path / "log").write_bytes(lines)
    with receiving() as receiver:
        assert _send(receiver.port, "-", given=lines).stdout.startswith("5 events")
        assert _send(receiver.port, "--file", str(tmp_path / "log")).stdout.startswith("5 events")
    assert [record for _, record in receiver.events] == expected * 2


@pytest.mark.parametrize("arguments", [[], ["text", "--record", "{}"], ["--record", "{"], ["--record", "[]"]])
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    """Nothing to send, two things to send, or a record that is none."""
    assert _send(9, *arguments).exit_code == 2


def test_what_is_not_acknowledged_ends_with_1(tmp_path: Path) -> None:
    """A receiver that is away or closes without an answer is one line and exit 1, with what was acknowledged."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    away = _send(port, "hello")
    assert (away.exit_code, away.stdout) == (1, "")
    assert f"127.0.0.1:{port}" in away.stderr
    (tmp_path / "log").write_bytes(b"x" * 99 + b"\n" + b"y" * 400_000 + b"\nz\n")
    with receiving(acks=1) as receiver:
        result = _send(receiver.port, "--file", str(tmp_path / "log"))
    assert result.exit_code == 1
    assert "1 events were acknowledged before" in result.stderr


def test_without_an_address_the_configuration_says_where(tmp_path: Path) -> None:
    """The port of its first forward input is taken, and this machine for a listener on all addresses."""
    with receiving() as receiver:
        (tmp_path / "c.yaml").write_text(
            f"inputs: {{front: {{type: forward, host: 0.0.0.0, port: {receiver.port}}}}}\n"
            "outputs: {stdout: }\npipelines: {mcp: {match: '**', stages: [redact]}}\n"
        )
        result = CliRunner().invoke(main, ["send", "-c", str(tmp_path / "c.yaml"), "hello"])
    assert result.exit_code == 0, result.output
    assert receiver.events == [("mcp", {"message": "hello"})]


def test_what_a_pipe_has_so_far_is_a_batch() -> None:
    """Lines are not held back until a pipe has more; a line that is not complete waits for its end."""
    reading, writing = os.pipe()
    with open(reading, "rb") as source, open(writing, "wb", buffering=0) as pipe:
        batches = batches_of(source)
        pipe.write(b"one\ntw")
        assert next(batches) == (6, [{"message": "one"}])
        pipe.write(b"o\n")
        assert next(batches) == (2, [{"message": "two"}])
    assert list(batches_of(io.BytesIO(b""))) == []
