"""Ports that several workers share."""

from __future__ import annotations

import socket

import pytest

from mcp_ingest.config.model import ComponentConfig, Configuration, Place
from mcp_ingest.engine.ports import held
from mcp_ingest.errors import IngestError
from mcp_ingest.inputs.forward import Forward
from mcp_ingest.inputs.tail import Tail


def _config(host: str, port: int) -> Configuration:
    place = Place("f", 1, 1)
    return Configuration(
        inputs={
            "in": ComponentConfig("input", "in", "forward", Forward.Config(host=host, port=port), place),
            "files": ComponentConfig("input", "files", "tail", Tail.Config(paths=["/x"]), place),
        }
    )


def _listener(port: int, *, shared: bool, after_others: bool = False) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, after_others)  # as asyncio sets it
    if shared:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(("127.0.0.1", port))
    made.listen()
    return made


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost", "::"])
def test_any_free_port_is_chosen_once(host: str) -> None:
    """All workers get the same number, and can listen on it; inputs that do not listen have none."""
    with held(_config(host, 0)) as ports:
        assert list(ports) == ["in"]
        with _listener(ports["in"], shared=True), _listener(ports["in"], shared=True):
            pass


@pytest.mark.parametrize("shared", [True, False])
def test_a_port_where_somebody_listens_is_taken(*, shared: bool) -> None:
    """Also one that others of ours share."""
    with _listener(0, shared=shared) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(IngestError, match=f"in: cannot listen on tcp 127.0.0.1:{port}: Address"),
            held(_config("127.0.0.1", port)),
        ):
            pass


def test_a_held_port_gets_no_connections() -> None:
    """While no worker listens, senders are refused and not left waiting."""
    with held(_config("127.0.0.1", 0)) as ports, pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", ports["in"]), timeout=2)


def test_two_supervisors_at_once() -> None:
    """Ports that another one holds are taken, before its workers listen, too."""
    with held(_config("127.0.0.1", 0)) as ports, pytest.raises(IngestError), held(_config("127.0.0.1", ports["in"])):
        pass


def test_connections_of_a_daemon_that_was_alone_are_in_nobody_s_way() -> None:
    """They are in TIME_WAIT for a minute: `workers: 2` after `workers: 1` starts all the same."""
    with socket.create_server(("127.0.0.1", 0)) as alone:
        port = alone.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as sender:
            alone.accept()[0].close()
            assert sender.recv(1) == b""
    with held(_config("127.0.0.1", port)) as ports, _listener(ports["in"], shared=True, after_others=True):
        pass
