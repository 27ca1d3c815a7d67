"""`mcp-ingest reload` and SIGHUP, with a daemon of its own."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from mcp_ingest.cli import main
from tests.cli.daemons import configuration
from tests.integration.daemon import Daemon, wait_until
from tests.integration.servers import free_port


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A running daemon with one output."""
    config = {
        "inputs": {"forward": {}},
        "pipelines": {"p": {"match": "**", "stages": ["redact"]}},
        "outputs": {"hole": {"type": "blackhole"}},
    }
    with Daemon(tmp_path, config) as running:
        yield running


def _edit(daemon: Daemon, **sections: Any) -> None:
    config = {**yaml.safe_load(daemon.config.read_text()), **sections}
    daemon.config.write_text(yaml.safe_dump(config, sort_keys=False))


_MORE = {"hole": {"type": "blackhole"}, "more": {"type": "blackhole"}}


def test_it_shows_what_changed(daemon: Daemon) -> None:
    """Exit code 0 once it is taken; a second time nothing is different."""
    _edit(daemon, outputs=_MORE, log={"level": "debug"})
    shown = daemon.run("reload")
    assert shown.stdout.splitlines() == [
        f"reloaded: {daemon.config}",
        "  inputs     kept: forward",
        "  pipelines  changed: p",
        "  outputs    added: more; kept: hole",
        "  settings   changed: log.level",
    ]
    assert "added" not in daemon.run("reload").stdout
    assert list(daemon.status()["outputs"]) == ["hole", "more"]


def test_a_mistake_is_shown_with_its_place(daemon: Daemon) -> None:
    """Exit code 1, and the old configuration goes on."""
    _edit(daemon, outputs={"hole": {"type": "blackhol"}})
    shown = daemon.run("reload", check=False)
    assert shown.returncode == 1
    assert "did you mean `blackhole`?" in shown.stderr.splitlines()[0]
    assert "the old configuration goes on" in shown.stderr.splitlines()[1]
    assert list(daemon.status()["outputs"]) == ["hole"]
    assert "mcp_ingest_config_reload_success 0.0" in daemon.get("/metrics")[1]
    _edit(daemon, outputs={"hole": {"type": "blackhole"}})
    assert "the last reload failed: " in daemon.run("status").stdout
    daemon.run("reload")
    assert "the last reload failed: " not in daemon.run("status").stdout


def test_the_port_it_listens_on_can_be_named(daemon: Daemon) -> None:
    """Where the file says another one already."""
    old, new = daemon.http_port, free_port()
    _edit(daemon, http={"port": new})
    shown = daemon.run("reload", check=False)
    assert shown.returncode == 1
    assert "--port" in shown.stderr
    assert "changed: http.port" in daemon.run("reload", "--port", str(old)).stdout
    daemon.http_port = new
    assert daemon.get("/-/ready")[0] == 200


def test_sighup_reloads(daemon: Daemon) -> None:
    """As often as it comes; what is wrong is in the log, and the daemon goes on."""
    assert daemon.process is not None
    _edit(daemon, outputs=_MORE)
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: list(daemon.status()["outputs"]) == ["hole", "more"])
    _edit(daemon, outputs={})
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: daemon.status()["reload_failed"])
    assert "there are no outputs" in daemon.log.read_text()
    assert daemon.get("/-/ready")[0] == 200


def test_a_change_of_the_file_reloads_where_it_is_asked_for(daemon: Daemon) -> None:
    """Once `reload_on_change` is taken, and no more once it is taken back."""
    _edit(daemon, reload_on_change=True)
    daemon.run("reload")
    time.sleep(1.5)
    _edit(daemon, outputs=_MORE)
    wait_until(lambda: list(daemon.status()["outputs"]) == ["hole", "more"], 15)
    _edit(daemon, reload_on_change=False)
    wait_until(lambda: "reload_on_change" in daemon.log.read_text().splitlines()[-1], 15)
    _edit(daemon, outputs={"hole": {"type": "blackhole"}})
    time.sleep(3)
    assert list(daemon.status()["outputs"]) == ["hole", "more"]


def test_without_a_daemon(tmp_path: Path) -> None:
    """It says where none listens, also when the file has mistakes."""
    path = Path(configuration(tmp_path, free_port()))
    path.write_text(path.read_text() + "nonsense: 1\n")
    result = CliRunner().invoke(main, ["reload", "-c", str(path)])
    assert result.exit_code == 1
    assert "no daemon listens on 127.0.0.1" in result.output


def test_a_closed_terminal_ends_it(tmp_path: Path) -> None:
    """SIGHUP means what it always did for a daemon in the foreground whose terminal is gone."""
    path = configuration(tmp_path, free_port())
    Path(path).write_text(Path(path).read_text().replace("{forward: }", f"{{forward: {{port: {free_port()}}}}}"))
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "mcp_ingest", "run", "-c", path]
    with subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, cwd=tmp_path) as process:
        os.close(follower)
        said = b""
        while b"mcp-ingest status" not in said:
            said += os.read(leader, 4096)
        os.close(leader)
        process.send_signal(signal.SIGHUP)
        assert process.wait(30) == 0
