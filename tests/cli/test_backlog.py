"""`mcp-ingest backlog`: list, move and drop, with a daemon and without."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from mcp_ingest.cli import main
from tests.integration.daemon import Daemon, wait_until


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A running daemon that owes five events to each of two outputs that its configuration has no more."""
    (tmp_path / "closed").touch()
    old = {"type": "file", "path": str(tmp_path / "closed" / "x")}
    config: dict[str, Any] = {
        "inputs": {"forward": {}},
        "pipelines": {"p": {"match": "**", "stages": ["redact"]}},
        "outputs": {"old": old, "older": old},
    }
    with Daemon(tmp_path, config) as running:
        running.run("send", "--tag", "t", "-", stdin="1\n2\n3\n4\n5\n")
        written = {**yaml.safe_load(running.config.read_text()), "outputs": {"hole": {"type": "blackhole"}}}
        running.config.write_text(yaml.safe_dump(written, sort_keys=False))
        assert "5 events of old (file) wait in the spool" in running.run("reload").stdout
        yield running


def _backlog(daemon: Daemon, *arguments: str, answer: str = "") -> Result:
    return CliRunner().invoke(main, ["backlog", "-c", str(daemon.config), *arguments], input=answer)


def test_they_are_listed(daemon: Daemon) -> None:
    """With a daemon, and without one out of the spool; `status` has them, too."""
    assert _backlog(daemon, "list").output.splitlines()[0].split()[:4] == ["old", "(file)", "5", "events"]
    assert "old (file)" in daemon.run("status").stdout
    daemon.stop()
    found = json.loads(_backlog(daemon, "list", "--json").output)
    assert {name: each["events"] for name, each in found.items()} == {"old (file)": 5, "older (file)": 5}
    result = _backlog(daemon, "drop", "old", "--yes")
    assert (result.exit_code, "no daemon runs" in result.output) == (1, True)


def test_one_is_moved_and_one_dropped(daemon: Daemon) -> None:
    """Who is asked may say no; the name alone is enough; then nothing is left, and all sums close."""
    result = _backlog(daemon, "move", "old", "--to", "hole", answer="n\n")
    assert (result.exit_code, "Move 5 events of old (file) to hole?" in result.output) == (1, True)
    assert _backlog(daemon, "move", "old", "--to", "hole", answer="y\n").exit_code == 0
    assert _backlog(daemon, "drop", "older (file)", "--yes").output == "dropped 5 events of older (file)\n"
    assert "no removed output owes anything" in _backlog(daemon, "list").output
    wait_until(daemon.drained)
    daemon.assert_closed()


def test_what_is_not_there_is_said(daemon: Daemon) -> None:
    """Exit code 1, with the names that there are."""
    result = _backlog(daemon, "drop", "nothing", "--yes")
    assert result.exit_code == 1
    assert "there are 'old (file)', 'older (file)'" in result.output
    result = _backlog(daemon, "move", "old", "--to", "nowhere", "--yes")
    assert (result.exit_code, "there are hole" in result.output) == (1, True)
