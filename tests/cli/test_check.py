"""`mcp-ingest check`."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from mcp_ingest.cli import main

GOOD = """
inputs: {forward: , files: {type: tail, paths: [/tmp/x.log], tag: mcp.file}}
outputs: {stdout: }
pipelines:
  mcp: {match: "mcp.**", stages: [parse_json, redact]}
"""


def test_a_good_file_is_shown_as_a_graph_with_its_warnings(tmp_path: Path) -> None:
    """Exit 0, the flow on standard output, warnings on standard error, no colour where no terminal is."""
    (tmp_path / "c.yaml").write_text(GOOD)
    result = CliRunner().invoke(main, ["check", "-c", str(tmp_path / "c.yaml")])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        f"OK: {tmp_path}/c.yaml",
        "inputs: forward, files (tail)",
        "  mcp.** → mcp: parse_json → redact → stdout",
    ]
    assert "warning: " in result.stderr
    assert "unmatched" in result.stderr
    assert "\x1b" not in result.output


def test_every_mistake_is_a_line(tmp_path: Path) -> None:
    """Exit 2 and a line for each mistake."""
    (tmp_path / "c.yaml").write_text(GOOD.replace("match", "mtach").replace("parse_json", "parse_jsn"))
    result = CliRunner().invoke(main, ["check", "-c", str(tmp_path / "c.yaml")])
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 3
    assert result.stdout == ""


def test_what_several_workers_do_is_said(tmp_path: Path) -> None:
    """Which inputs they share and how, and where each writes."""
    archive = f"outputs: {{stdout: , archive: {{type: file, path: {tmp_path}/x}}}}"
    (tmp_path / "c.yaml").write_text(GOOD.replace("outputs: {stdout: }", archive) + "workers: 64\n")
    result = CliRunner().invoke(main, ["check", "-c", str(tmp_path / "c.yaml")])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[3:6] == [
        "workers: 64, each with a spool of its own",
        "  forward: every worker listens on its port",
        "  files (tail): what it reads is shared out",
    ]
    assert "archive (file): each worker but the first writes into `worker-K` folders" in result.stdout
    assert "more workers than cores" in result.stdout
