"""Errors carry what those need who react to them."""

from __future__ import annotations

import errno
import socket

from mcp_ingest.errors import ConfigError, refusal


def test_a_configuration_s_mistakes_are_all_there() -> None:
    """`problems` has each mistake, the text has one on each line."""
    error = ConfigError(["a.yaml:1:1: one", "a.yaml:2:1: two"])
    assert error.problems == ["a.yaml:1:1: one", "a.yaml:2:1: two"]
    assert str(error) == "a.yaml:1:1: one\na.yaml:2:1: two"


def test_a_refusal_is_what_the_system_said() -> None:
    """asyncio's own text around it is left out; an error of names, whose numbers are others, stays as it is."""
    text = "error while attempting to bind on address ('127.0.0.1', 24224): address already in use"
    assert refusal(OSError(errno.EADDRINUSE, text)) == "Address already in use"
    assert "Name or service" in refusal(socket.gaierror(-2, "Name or service not known"))
    assert refusal(OSError("no number")) == "no number"
