"""`mcp-ingest dead-letters`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from mcp_ingest.cli import main
from tests.cli.daemons import answering, configuration, leave_a_spool

LETTER: dict[str, Any] = {
    "time": 1_700_000_000_000_000_000, "reason": "mapper_parsing_exception", "kind": "refused", "tag": "mcp",
    "record": {"message": "é"}, "event_id": "abc", "event_time": 5_000_000_000, "input": "", "pipeline": "mcp",
    "stage": "", "output": "elasticsearch", "destination": "mcp-logs", "number": 7,
}  # fmt: skip


def _run(folder: Path, port: int, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["dead-letters", "-c", configuration(folder, port), *arguments])


def test_the_daemon_s_letters_are_listed(tmp_path: Path) -> None:
    """A line for each, with number, time, place and reason; a full page says how to go on."""
    with answering({"/api/dead-letters?limit=1": {"letters": [LETTER]}}) as port:
        result = _run(tmp_path, port, "list", "--limit", "1")
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == ["7", "2023-11-14T22:13:20Z", "elasticsearch", "mcp", "mapper_parsing_exception"]
    assert "--before 7" in result.stderr


def test_json_is_a_letter_on_a_line(tmp_path: Path) -> None:
    """`--json` gives scripts the whole letter."""
    with answering({"/api/dead-letters?limit=20&before=9": {"letters": [LETTER]}}) as port:
        result = _run(tmp_path, port, "list", "--json", "--before", "9")
    assert [json.loads(line) for line in result.stdout.splitlines()] == [LETTER]


def test_one_letter_is_shown_with_its_record(tmp_path: Path) -> None:
    """All that is known of it, and the record as JSON."""
    with answering({"/api/dead-letters/7": LETTER}) as port:
        result = _run(tmp_path, port, "show", "7")
        assert json.loads(_run(tmp_path, port, "show", "7", "--json").stdout) == LETTER
        missing = _run(tmp_path, port, "show", "8")
    assert "destination: mcp-logs" in result.stdout
    assert '"message": "é"' in result.stdout
    assert missing.exit_code == 1


async def test_without_a_daemon_the_spool_is_read(tmp_path: Path) -> None:
    """The letters of a stopped daemon are listed and shown."""
    await leave_a_spool(tmp_path)
    listed = _run(tmp_path, 0, "list")
    assert listed.exit_code == 0, listed.output
    assert "forward > mcp > parse_json" in listed.stdout
    assert "not JSON: line 1" in listed.stdout
    number = listed.stdout.split()[0]
    assert '"message": "oops"' in _run(tmp_path, 0, "show", number).stdout
    missing = _run(tmp_path, 0, "show", "999")
    assert missing.exit_code == 1
    assert "there is no dead letter 999" in missing.stderr


def test_without_anything_it_says_so(tmp_path: Path) -> None:
    """No daemon and no spool: one line, exit 1."""
    result = _run(tmp_path, 0, "list")
    assert result.exit_code == 1
    assert "there is no spool" in result.stderr
