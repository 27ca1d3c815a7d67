"""`mcp-ingest schema`."""

from __future__ import annotations

import json

from click.testing import CliRunner

from mcp_ingest.cli import main


def test_the_schema_is_json() -> None:
    """What it prints is one JSON document about the whole configuration."""
    result = CliRunner().invoke(main, ["schema"])
    assert result.exit_code == 0
    assert set(json.loads(result.stdout)["properties"]) >= {"inputs", "pipelines", "outputs", "spool", "http", "log"}
