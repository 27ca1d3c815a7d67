"""The platform's pipeline keeps what its own test file promises."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from mcp_ingest.cli.test import command

PIPELINES = Path(__file__).parents[2] / "pipelines"


@pytest.mark.parametrize("path", sorted(PIPELINES.glob("*.test.yaml")), ids=lambda path: path.name)
def test_pipelines_do_what_their_tests_say(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each `NAME.test.yaml` beside a pipeline that we ship passes."""
    for name in ("MCP_ENVIRONMENT", "MCP_REGION", "MCP_TIMEZONE"):
        monkeypatch.delenv(name, raising=False)
    result = CliRunner().invoke(command, [str(path)])
    assert result.exit_code == 0, result.output
