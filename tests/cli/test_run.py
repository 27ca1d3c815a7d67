"""`mcp-ingest run`, started as a user starts it."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from tests.integration.servers import free_port


def _config(directory: Path, **inputs: Any) -> Path:
    config = {
        "inputs": inputs or {"forward": {"host": "127.0.0.1", "port": free_port()}},
        "pipelines": {"p": {"match": "**", "stages": ["redact"]}},
        "outputs": {"blackhole": {}},
        "spool": {"directory": str(directory / "spool")},
        "http": {"port": free_port()},
    }
    path = directory / "mcp-ingest.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def _command(path: Path) -> list[str]:
    return [sys.executable, "-m", "mcp_ingest", "run", "-c", str(path)]


def test_on_a_terminal_it_says_what_to_try_next(tmp_path: Path) -> None:
    """A person is told what it listens on and what to type; Ctrl-C ends it with 0."""
    path = _config(tmp_path)
    leader, follower = pty.openpty()
    with subprocess.Popen(_command(path), stderr=follower, stdout=follower, stdin=follower, cwd=tmp_path) as process:
        os.close(follower)
        said = b""
        end = time.monotonic() + 30
        while b"status" not in said and time.monotonic() < end:
            if select.select([leader], [], [], 0.2)[0]:
                said += os.read(leader, 4096)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    os.close(leader)
    text = said.decode()
    assert "takes events:" in text
    assert "forward on tcp 127.0.0.1:" in text
    assert "mcp-ingest send" in text


def test_elsewhere_it_says_so_in_one_line_of_json(tmp_path: Path) -> None:
    """Without a terminal the start is one line of JSON, and healthy operation adds none."""
    path = _config(tmp_path)
    with subprocess.Popen(_command(path), stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stderr is not None
        line = json.loads(process.stderr.readline())
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
        assert process.wait(30) == 0
    assert line["service_name"] == "mcp-ingest"
    assert "forward on tcp" in line["message"]
    assert rest == ""


def test_a_port_that_is_taken_is_one_sentence(tmp_path: Path) -> None:
    """The daemon that cannot listen says where, and exits with 1."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        path = _config(tmp_path, forward={"host": "127.0.0.1", "port": port})
        done = subprocess.run(_command(path), capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 1
    assert str(port) in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    """A spool folder that is a file is said to be, and the exit code is 1."""
    path = _config(tmp_path)
    (tmp_path / "spool").write_text("not a folder")
    done = subprocess.run(_command(path), capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 1
    assert "spool" in done.stderr
    assert "Traceback" not in done.stderr
