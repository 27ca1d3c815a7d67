"""Errors carry what those need who react to them."""

from __future__ import annotations

from mcp_ingest.errors import ConfigError


def test_a_configuration_s_mistakes_are_all_there() -> None:
    """`problems` has each mistake, the text has one on each line."""
    error = ConfigError(["a.yaml:1:1: one", "a.yaml:2:1: two"])
    assert error.problems == ["a.yaml:1:1: one", "a.yaml:2:1: two"]
    assert str(error) == "a.yaml:1:1: one\na.yaml:2:1: two"
