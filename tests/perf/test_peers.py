"""Peers: configurations in folders of their own, filled in for a run; what is not installed is one clear line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from perf.__main__ import main
from perf.peers import PEERS, Peer
from perf.program import Place
from perf.scenario import scenarios

FOLDER = Path(__file__).parents[2] / "perf" / "peers"
SCENARIOS = scenarios()
FILES = sorted(path for path in FOLDER.glob("*/*") if path.suffix in {".conf", ".yaml"})


@pytest.fixture
def pretended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Executables of the peers' names on the PATH."""
    for peer in PEERS.values():
        path = tmp_path / peer.executable
        path.write_text("#!/bin/sh\necho 'Program v9.8.7'\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_configuration_is_filled_in(path: Path, pretended: None, tmp_path: Path) -> None:
    """No placeholder is left, the ports are the run's, and what is YAML can be read."""
    place = Place(tmp_path)
    PEERS[path.parent.name].command(SCENARIOS[path.stem.upper()], place)
    text = (tmp_path / path.name).read_text()
    assert not any(f"@{name}@" in text for name in ("FORWARD_PORT", "SINK_PORT", "HTTP_PORT", "DIRECTORY", "FILES"))
    assert str(place.sink_port) in text or path.stem == "s1"
    if path.suffix == ".yaml":
        assert yaml.safe_load(text)["pipeline"]["outputs"]


def test_the_command_line_names_the_configuration(pretended: None, tmp_path: Path) -> None:
    """A peer is started with the file that was written for it, and says its version."""
    peer = PEERS["fluentd"]
    command = peer.command(SCENARIOS["S10"], Place(tmp_path))
    assert list(command.line) == [str(tmp_path / "fluentd"), "-c", str(tmp_path / "s2.conf")]
    assert peer.version() == "9.8.7"
    assert not peer.can(SCENARIOS["S6"])


def test_one_that_is_not_installed_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The others are measured all the same."""
    monkeypatch.setitem(PEERS, "fluentd", Peer("fluentd", "no-such-fluentd", [], "--version"))
    arguments = ["--only", "S1", "--runs", "1", "--events", "2000", "--peer", "fluentd", "--results", str(tmp_path)]
    assert main(arguments) in (0, 1)
    assert "fluentd is not measured: there is no `no-such-fluentd` on the PATH" in capsys.readouterr().err
