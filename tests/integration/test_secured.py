"""Delivery over TLS with a password; what is wrong with either is one clear line, and heals by itself."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from mcp_ingest.client.forward import ForwardSender
from tests.integration.configurations import to_elasticsearch
from tests.integration.daemon import Daemon, wait_until
from tests.integration.servers import Elasticsearch


def _lines(daemon: Daemon, part: str) -> list[str]:
    return [line for line in daemon.log.read_text().splitlines() if part in line]


def test_a_wrong_password_parks_and_heals(tmp_path: Path, secured: tuple[Elasticsearch, Path]) -> None:
    """401 is one line that names the user, the output is parked, and goes on once the password is right."""
    server, directory = secured
    server.set_password("shipper", "something-else")
    time.sleep(2)
    index = f"secured-{time.time_ns()}"
    settings: dict[str, Any] = {
        "username": "shipper",
        "password": "right-password",
        "ca_file": str(directory / "ca.pem"),
    }
    with Daemon(tmp_path, to_elasticsearch(server.url, index, **settings)) as daemon:
        with ForwardSender("127.0.0.1", daemon.forward_port) as sender:
            sender.send("mcp", [(0, {"message": "over TLS"})])
        wait_until(lambda: "shipper" in (daemon.status()["outputs"]["elasticsearch"]["why"] or ""), what="the reason")
        time.sleep(6)
        assert len(_lines(daemon, "shipper")) == 1, daemon.log.read_text()
        assert "right-password" not in daemon.log.read_text()
        server.set_password("shipper", "right-password")
        wait_until(lambda: server.count(index) == 1, 40, what="the event in Elasticsearch")
        wait_until(daemon.drained)
        assert daemon.status()["outputs"]["elasticsearch"]["state"] == "up"
        daemon.assert_closed()


def test_an_untrusted_certificate_parks_and_heals(tmp_path: Path, secured: tuple[Elasticsearch, Path]) -> None:
    """A certificate of an unknown authority is one line that says so; with the right authority delivery goes on."""
    server, directory = secured
    index = f"secured-{time.time_ns()}"
    authority = tmp_path / "ca.pem"
    authority.write_bytes((directory / "stranger.pem").read_bytes())
    settings: dict[str, Any] = {"username": "shipper", "password": "right-password", "ca_file": str(authority)}
    server.set_password("shipper", "right-password")
    with Daemon(tmp_path, to_elasticsearch(server.url, index, **settings)) as daemon:
        with ForwardSender("127.0.0.1", daemon.forward_port) as sender:
            sender.send("mcp", [(0, {"message": "over TLS"})])
        wait_until(
            lambda: "certificate" in (daemon.status()["outputs"]["elasticsearch"]["why"] or ""), what="the reason"
        )
        time.sleep(6)
        assert len(_lines(daemon, "is not trusted")) == 1, daemon.log.read_text()
        authority.write_bytes((directory / "ca.pem").read_bytes())
        wait_until(lambda: server.count(index) == 1, 40, what="the event in Elasticsearch")
        wait_until(daemon.drained)
        daemon.assert_closed()


def test_a_rotated_password_and_a_forbidden_index(tmp_path: Path, secured: tuple[Elasticsearch, Path]) -> None:
    """A password that changes in its file is used without a restart; an index that the role forbids waits alone."""
    server, directory = secured
    prefix = f"secured-{time.time_ns()}"
    secret = tmp_path / "secret"
    secret.write_text("right-password\n")
    server.set_password("shipper", "right-password")
    settings: dict[str, Any] = {
        "username": "shipper",
        "password": f"${{file:{secret}}}",
        "ca_file": str(directory / "ca.pem"),
        "template": False,
    }
    config = to_elasticsearch(server.url, prefix + "-{service_name}", **settings)
    forbidden = to_elasticsearch(server.url, f"forbidden-{prefix}", **settings)["outputs"]["elasticsearch"]
    config["outputs"]["forbidden"] = {"type": "elasticsearch", **forbidden}
    with Daemon(tmp_path, config) as daemon, ForwardSender("127.0.0.1", daemon.forward_port) as sender:
        sender.send("mcp", [(0, {"message": "with the old one", "service_name": "a"})])
        wait_until(lambda: server.count(f"{prefix}-a") == 1, 40, what="the first event")
        wait_until(lambda: daemon.status()["outputs"]["forbidden"]["parked"], 40, what="the forbidden index parked")
        server.set_password("shipper", "new-password")
        secret.write_text("new-password\n")
        time.sleep(2)
        sender.send("mcp", [(0, {"message": "with the new one", "service_name": "a"})])
        wait_until(lambda: server.count(f"{prefix}-a") == 2, 40, what="the second event")
        assert daemon.status()["outputs"]["forbidden"]["held"] == 2
        daemon.assert_closed()
        for password in ("right-password", "new-password"):
            assert password not in daemon.log.read_text()
