"""The picture: boxes of what py-spy saw, without how a program starts and without paths of the machine."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from perf import profile
from perf.flame import drawn
from perf.profile import COLOURS, main, tree
from perf.scenario import ROOT

_LOOP = (
    "thread (12): MainThread;_run_code (<frozen runpy>:65);Verbs.invoke (mcp_ingest/cli/run.py:2);run (asyncio/x.py:8)"
)
_SPOOL = "thread (0x7F00AA): spool;Thread.run (threading.py:971);Worker._run (mcp_ingest/spool/worker.py:9)"
_STACKS = f"""\
{_LOOP};Ingest.run (mcp_ingest/engine/ingest.py:63);finish (mcp_ingest/engine/lines.py:32) 600
{_LOOP} 100
{_LOOP};send (/usr/lib/python3.13/site-packages/aiohttp/client.py:7) 50
{_LOOP};f.<locals>.<listcomp> ({ROOT}/mcp_ingest/stages/drop.py:7) 50
{_SPOOL};Worker._write (mcp_ingest/spool/worker.py:99) 199
{_SPOOL};Worker._take (mcp_ingest/spool/worker.py:49) 5000
thread (0x7F00BB);odd 1
"""


def test_boxes_are_of_what_was_worked_on() -> None:
    """How the program and its threads start is left out, as is waiting; a loop without a function is uvloop's."""
    root = tree(_STACKS)
    assert root.samples == 1_000
    assert [(box.name, box.samples) for box in root.below.values()] == [
        ("the event loop", 800),
        ("the spool's thread", 199),
        ("a thread of the pool", 1),
    ]
    loop = next(iter(root.below.values()))
    assert [*loop.below] == [
        ("Ingest.run", "mcp_ingest/engine/ingest.py"),
        ("uvloop: sockets, timers", "uvloop"),
        ("send", "aiohttp/client.py"),
        ("f.<listcomp>", "mcp_ingest/stages/drop.py"),
    ]


def test_the_picture_is_a_small_still_one() -> None:
    """It is well-formed SVG without a script; boxes have names, shares and the colours of their parts."""
    picture = drawn(tree(_STACKS), "S3: drop & go", COLOURS)
    ElementTree.fromstring(picture)
    assert "<script" not in picture
    assert "S3: drop &amp; go" in picture
    assert "<title>finish (mcp_ingest/engine/lines.py): 60.0 %</title>" in picture
    assert COLOURS["mcp_ingest/engine/"] in picture
    assert "odd" not in picture  # too narrow


def test_the_picture_that_is_kept_has_no_path_of_a_machine() -> None:
    """Files in it are relative; it is small enough for a page."""
    text = (ROOT / "perf" / "results" / "s3.svg").read_text(encoding="utf-8")
    ElementTree.fromstring(text)
    assert len(text) < 200_000
    titles = [each.text or "" for each in ElementTree.fromstring(text).iter("{http://www.w3.org/2000/svg}title")]
    assert any("finish (mcp_ingest/engine/lines.py)" in title for title in titles)
    assert not [title for title in titles if "(/" in title or "site-packages" in title]


def test_a_real_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A short run is drawn; where attaching is forbidden, or py-spy missing, one line says so."""
    if main(["--events", "60000", "--results", str(tmp_path)]):
        said = capsys.readouterr().err
        assert "py-spy" in said
        assert len(said.splitlines()) == 1
        pytest.skip(said.strip())
    assert "Pipeline.run (mcp_ingest/engine/pipeline.py)" in (tmp_path / "s3.svg").read_text()


def test_without_py_spy_one_line_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It says what to install."""
    monkeypatch.setattr(profile, "spy", lambda: None)
    assert main([]) == 1
    assert "pip install" in capsys.readouterr().err


def test_what_py_spy_refuses_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A py-spy that may not attach leaves no picture, and its words are shown."""
    refusing = tmp_path / "py-spy"
    refusing.write_text("#!/bin/sh\necho 'Permission Denied: Try running again with elevated permissions'\nexit 1\n")
    refusing.chmod(0o755)
    monkeypatch.setattr(profile, "spy", lambda: str(refusing))
    assert main(["--events", "2000", "--results", str(tmp_path / "none")]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "py-spy saw nothing: Permission Denied" in said[0]
