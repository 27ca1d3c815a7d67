"""`mcp-ingest status`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mcp_ingest.cli import main
from mcp_ingest.cli.status import exit_code, lines
from tests.cli.daemons import answering, configuration, leave_a_spool

RUNNING: dict[str, Any] = {
    "version": "1.2.3",
    "uptime_seconds": 7200.0,
    "inputs": {"forward": {"listening": "tcp 0.0.0.0:24224", "received": 12345, "rate": 310.5}},
    "outputs": {
        "stdout": {
            "type": "stdout", "state": "up", "why": None, "held": 5, "held_bytes": 2048, "oldest_age_seconds": 1.5,
            "delivered": 12340, "rate": 300.0,
        }
    },
    "spool": {
        "bytes": 1572864, "max_bytes": 8589934592, "wal_bytes": 4096, "chunks": 3, "oldest_age_seconds": 1.5,
        "dead_letters": 0,
    },
    "ledger": {
        "inputs": [{"input": "forward", "pipeline": "mcp", "term": "filtered", "reason": "drop", "count": 7}],
        "outputs": [],
        "dead_letters": [],
    },
    "sums": [{"sum": "way in: forward", "left": 12345, "right": 12345, "closed": True}],
}  # fmt: skip


def _changed(**outputs: Any) -> dict[str, Any]:
    return {**RUNNING, "outputs": {"stdout": {**RUNNING["outputs"]["stdout"], **outputs}}}


def _status(folder: Path, port: int, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["status", "-c", configuration(folder, port), *arguments])


def test_a_daemon_in_good_health_ends_with_0(tmp_path: Path) -> None:
    """Rates, spool and sums of the daemon that answers."""
    with answering({"/status": RUNNING}) as port:
        result = _status(tmp_path, port)
    assert result.exit_code == 0, result.output
    for part in (
        "mcp-ingest 1.2.3, up 2.0 h",
        "received 12,345, 310.5/s",
        "held 5 (2.0 KiB, oldest 1.5 s)",
        "1.5 MiB of 8.0 GiB in 3 chunks",
        "ledger of forward: filtered 7 (drop 7)",
        "✓ way in: forward: 12,345 = 12,345",
    ):
        assert part in result.output


def test_scripts_get_the_json(tmp_path: Path) -> None:
    """`--json` prints what the daemon says."""
    with answering({"/status": RUNNING}) as port:
        assert json.loads(_status(tmp_path, port, "--json").stdout) == RUNNING


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (RUNNING, 0),
        (_changed(state="starting"), 0),
        (_changed(state="waiting", why="connection refused"), 3),
        (_changed(state="parked", why="wrong password"), 3),
        (_changed(parked={"logs-1": "403 blocked"}), 3),
        (_changed(parked={}), 0),
        ({**RUNNING, "sums": [{"sum": "x", "left": 2, "right": 1, "closed": False}]}, 3),
        ({**RUNNING, "running": False}, 1),
        ({**RUNNING, "spool": {**RUNNING["spool"], "trouble": "Read-only file system"}}, 3),
    ],
)
def test_the_exit_code_says_what_is_wrong(status: dict[str, Any], code: int) -> None:
    """0 when all is well, 1 without a daemon, 3 when an output waits, a sum does not close or the disk refuses."""
    assert exit_code(status) == code


def test_what_is_wrong_stands_in_the_text() -> None:
    """An output's reason and a sum's difference are shown."""
    status = {
        **_changed(state="parked", why="wrong password"),
        "sums": [{"sum": "x", "left": 2, "right": 1, "closed": False}],
    }
    text = "\n".join(lines(status))
    assert ": wrong password" in text
    assert "✗ x: 2 ≠ 1, difference +1" in text


async def test_without_a_daemon_the_spool_is_read(tmp_path: Path) -> None:
    """What a stopped daemon left is shown, and that it does not run."""
    await leave_a_spool(tmp_path)
    result = _status(tmp_path, 0)
    assert result.exit_code == 1, result.output
    for part in ("mcp-ingest is not running", "received 3", "held 2", "dead letters 1", "✓ way in: forward: 3 = 3"):
        assert part in result.output
    shown = json.loads(_status(tmp_path, 0, "--json").stdout)
    assert shown["running"] is False
    assert shown["outputs"]["stdout"]["held"] == 2
    assert all(each["closed"] for each in shown["sums"])


def test_without_a_daemon_and_a_spool_it_says_so(tmp_path: Path) -> None:
    """Before the first start there is nothing to show, which is no crash."""
    result = _status(tmp_path, 0)
    assert result.exit_code == 1
    assert "mcp-ingest is not running: there is no spool" in result.output


def test_destinations_that_take_nothing_are_shown() -> None:
    """Each with its reason, a few of many."""
    few = "\n".join(lines(_changed(parked={"logs-1": "403 blocked"})))
    assert "logs-1 takes nothing: 403 blocked" in few
    many = lines(_changed(parked={f"logs-{number}": "403 blocked" for number in range(500)}))
    assert len([line for line in many if "takes nothing" in line]) == 10
    assert any("and 490 more" in line for line in many)


def test_what_is_lost_is_said_with_what_to_do(tmp_path: Path) -> None:
    """Each output's losses by reason, each damage with its folder, and a disk that refuses."""
    damage = {
        "time": 1_795_381_000_000_000_000, "kind": "database", "why": "the database was damaged: malformed",
        "what": "148 chunks were saved", "lost": {"stdout": 12}, "positions_lost": True, "folder": "/spool/damaged-1",
        "bytes": 4096,
    }  # fmt: skip
    shown = _changed(lost={"damaged chunk": 5, "damaged spool": 7})
    shown["spool"] = {**RUNNING["spool"], "damage": [damage], "trouble": "disk I/O error"}
    with answering({"/status": shown}) as port:
        output = _status(tmp_path, port).output
    for part in (
        "lost 12 (damaged chunk 5, damaged spool 7): docs/damage.md says what can be done",
        "damage on 2026-11-22 20:56 UTC: the database was damaged: malformed; 148 chunks were saved; lost: stdout 12",
        "files are read again and may be stored twice",
        "/spool/damaged-1 (4.0 KiB) can be deleted when it was seen to",
        "the disk of the spool refuses: disk I/O error; inputs wait",
    ):
        assert part in output
