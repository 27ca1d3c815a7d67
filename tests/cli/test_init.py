"""The command line as a whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from mcp_ingest import __version__
from mcp_ingest.cli import main, summary


def test_help_shows_a_line_for_each_verb() -> None:
    """Every file of the folder is a verb, with the first line of its docstring."""
    result = CliRunner().invoke(main, ["--help"], terminal_width=120)
    assert result.exit_code == 0
    for verb in ("check", "dead-letters", "run", "schema", "send", "status", "test"):
        assert f"  {verb} " in result.output
        assert summary(verb)[:40] in result.output
    assert "shared" not in result.output


def test_version() -> None:
    """`--version` says the name and the version."""
    assert CliRunner().invoke(main, ["--version"]).output == f"mcp-ingest {__version__}\n"


def test_help_imports_no_verb() -> None:
    """To list the verbs, none of them and nothing of the engine is imported."""
    code = (
        "import sys; from mcp_ingest.cli import main; main(['--help'], standalone_mode=False); "
        "print([m for m in sys.modules if m.startswith('mcp_ingest.cli.') or 'engine' in m or m == 'yaml'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("arguments", [["nonsense"], ["check", "--nonsense"]])
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    """An unknown verb or option is a usage error."""
    assert CliRunner().invoke(main, arguments).exit_code == 2


def test_a_wrong_configuration_ends_every_verb_with_2(tmp_path: Path) -> None:
    """Its mistakes are lines on standard error, without a traceback."""
    file = tmp_path / "c.yaml"
    file.write_text("input: {}\n")
    for verb in (["status"], ["dead-letters", "list"], ["dead-letters", "-c", str(file), "show", "1"], ["check"]):
        result = CliRunner().invoke(main, verb if "-c" in verb else [*verb, "-c", str(file)])
        assert result.exit_code == 2
        assert "c.yaml:1:1: `input` is no section — did you mean `inputs`?" in result.stderr
        assert result.stdout == ""


def test_it_runs_as_a_module() -> None:
    """`python -m mcp_ingest` is the command."""
    done = subprocess.run([sys.executable, "-m", "mcp_ingest", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("mcp-ingest ")
