"""`mcp-ingest why`."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from mcp_ingest.cli import main
from mcp_ingest.event import hashed_prefix
from tests.cli.daemons import answering, configuration, leave_a_spool

KNOWN: dict[str, Any] = {
    "origins": ["input files: /var/log/a.log, the line at byte 8,123"],
    "prefixes": [], "taken": ["MOf0E6AL-0fvr0ei1swW"],
    "held": [
        {
            "id": "x" * 28, "tag": "mcp", "chunk": 7, "committed": 1_700_000_000_000_000_000, "pipeline": "main",
            "owed": [{"output": "es", "destination": "logs", "attempt": 3, "why": "index is closed"}],
            "settled": ["archive"],
        }
    ],
    "letters": [
        {
            "time": 1_700_000_001_000_000_000, "number": 9, "event_id": "y" * 28, "output": "", "stage": "parse_json",
            "pipeline": "main", "reason": "not\nJSON",
        }
    ],
    "searched": 12, "whole": False, "notes": [],
}  # fmt: skip
NOTHING = {**KNOWN, "origins": [], "taken": [], "held": [], "letters": [], "whole": True, "notes": ["a note"]}


def _why(folder: Path, port: int, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["why", "-c", configuration(folder, port), *arguments])


def test_all_that_the_daemon_knows_is_told_in_order(tmp_path: Path) -> None:
    """Where it came in, what took it, what it waits for, who has answered, and what died of it."""
    with answering({"/api/why?id=abc&tag=mcp.x": KNOWN}) as port:
        result = _why(tmp_path, port, "abc", "--tag", "mcp.x")
    assert (result.exit_code, result.stdout.splitlines()) == (0, [
        "came in    input files: /var/log/a.log, the line at byte 8,123",
        "taken      forward chunk, id prefix MOf0E6AL-0fvr0ei1swW: a resend would be recognised",
        f"accepted   2023-11-14T22:13:20Z  {'x' * 28} with tag mcp by pipeline main, in chunk 7 of the spool",
        "waits      for output es → logs, refused 3 times: index is closed",
        "settled    output archive has answered for it",
        f"died       2023-11-14T22:13:21Z  dead letter 9 of {'y' * 28} at parse_json: not JSON",
        "note       the spool is large: 12 of its chunks were looked through",
    ])  # fmt: skip


def test_what_nobody_knows_ends_with_1(tmp_path: Path) -> None:
    """It says what may have become of it all the same."""
    with answering({"/api/why?id=abc": NOTHING}) as port:
        result = _why(tmp_path, port, "abc")
        as_json = _why(tmp_path, port, "abc", "--json")
    assert result.exit_code == as_json.exit_code == 1
    assert "nothing is known of abc" in result.stdout
    assert "a note" in result.stdout
    assert "filtered" in result.stdout
    assert json.loads(as_json.stdout) == {**NOTHING, "outputs": {}}


def test_without_a_daemon_the_spool_is_read(tmp_path: Path) -> None:
    """A stopped daemon's spool tells what it holds."""
    asyncio.run(leave_a_spool(tmp_path))
    assert "nothing is known" in _why(tmp_path, 0, "no such thing").stdout
    held = _why(tmp_path, 0, hashed_prefix(b"source") + "AAAAAAAB")
    assert held.exit_code == 0, held.output
    assert "waits      for output stdout" in held.stdout


def test_without_anything_it_says_so(tmp_path: Path) -> None:
    """No daemon and no spool: one line, exit 1."""
    result = _why(tmp_path, 0, "abc")
    assert result.exit_code == 1
    assert "no daemon runs, and there is no spool" in result.stderr
