"""README.md says what is so: its tables, its map of the tree, what `run` prints."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import yaml

from mcp_ingest.engine.search.lucene import parse
from mcp_ingest.errors import QueryError
from tests.docs.samples import ROOT, Block, agree, blocks
from tests.docs.test_generate import generate
from tests.integration.configurations import to_store
from tests.integration.servers import free_port

README = ROOT / "README.md"

__all__ = ["generate"]


def _block(todo: str) -> Block:
    return next(block for block in blocks(README) if block.todo == todo)


def test_the_tables_are_made_from_the_code(generate: ModuleType) -> None:
    """Commands and components in README.md are those that there are; else run `python docs/generate.py`."""
    text = README.read_text(encoding="utf-8")
    assert text.count("<!-- made: ") == 2
    assert generate.with_tables(text) == text


def test_the_map_shows_the_folders_that_are_there() -> None:
    """Each folder of the map exists, and none of the package or of the root is missing from it."""
    shown, parent = set(), ""
    for line in _block("tree").text.splitlines():
        found = re.match(r"( *)(\S+)/ +\S", line)
        assert found is not None, line
        parent = parent if found[1] else found[2]
        shown.add(f"{parent}/{found[2]}" if found[1] else found[2])
    there = {path.name for path in ROOT.iterdir() if _is_source(path)}
    there |= {f"mcp_ingest/{path.name}" for path in (ROOT / "mcp_ingest").iterdir() if _is_source(path)}
    assert shown == there


def _is_source(folder: Path) -> bool:
    """Whether the folder has sources of ours, and is no leftover of a tool."""
    if not folder.is_dir() or folder.name.startswith((".", "__")) or folder.name in ("build", "dist", "var"):
        return False
    return any(path.suffix in (".py", ".yaml") for path in folder.resolve().rglob("*"))


def test_run_prints_what_is_shown(tmp_path: Path) -> None:
    """What `make run` shows on a terminal is what the page shows."""
    port, http_port = free_port(), free_port()
    config = {**to_store(tmp_path), "http": {"port": http_port}, "spool": {"directory": "mcp-ingest-data/spool"}}
    config["inputs"] = {"forward": {"host": "0.0.0.0", "port": port}}
    path = tmp_path / "mcp-ingest.yaml"
    path.write_text(yaml.safe_dump(config))
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "mcp_ingest", "run"]
    with subprocess.Popen(command, stderr=follower, stdout=follower, stdin=follower, cwd=tmp_path) as process:
        os.close(follower)
        said, end = b"", time.monotonic() + 30
        while b"ingest status" not in said and time.monotonic() < end:
            if select.select([leader], [], [], 0.2)[0]:
                said += os.read(leader, 4096)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    os.close(leader)
    printed = said.decode().replace("\r\n", "\n").replace(str(port), "24224").replace(str(http_port), "24231")
    shown = _block("terminal").text.partition("\n")[2]
    assert agree(shown, printed.replace("mcp-ingest.yaml", "built-in (store)")), printed


def test_searches_are_taken_and_refused_as_the_page_says() -> None:
    """Each text in the first column of the tables in docs/searching.md is taken, or refused under that heading."""
    page = (ROOT / "docs" / "searching.md").read_text(encoding="utf-8")
    taken, _, refused = page.partition("## What is refused")
    assert len(_first_column(taken)) > 20
    for text in _first_column(taken):
        parse(text, 0)
    assert len(_first_column(refused)) > 5
    for text in _first_column(refused):
        try:
            parse(text, 0)
        except QueryError:
            continue
        raise AssertionError(f"{text} is not refused")


def _first_column(text: str) -> list[str]:
    rows = re.findall(r"^\| (`.*?`) \|(?! ---)", text, flags=re.MULTILINE)
    return [code.replace("\\|", "|") for row in rows for code in re.findall(r"`([^`]+)`", row)]
