"""OpenSearch 2.19 with its Security plugin: TLS, users, roles, and both ways in which it forbids."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mcp_ingest.client.forward import ForwardSender
from mcp_ingest.verdict import DELIVERED, AllDelivered, Park, ParkAll
from tests.integration.configurations import to_elasticsearch
from tests.integration.daemon import Daemon, wait_until
from tests.integration.opensearch import SecuredOpenSearch
from tests.integration.writing import Make, each, request

pytestmark = pytest.mark.timeout(180)

READ = {"index_permissions": [{"index_patterns": ["open-*"], "allowed_actions": ["read"]}]}
_INTO = ["indices:data/write/index", "indices:data/write/bulk*", "indices:admin/auto_create", "indices:admin/create",
         "indices:admin/mapping/put"]  # fmt: skip


def _write(*patterns: str) -> dict[str, Any]:
    return {
        "cluster_permissions": ["indices:data/write/bulk"],
        "index_permissions": [{"index_patterns": list(patterns), "allowed_actions": _INTO}],
    }


SHIPPER, READER = "Shipping-7-logs!", "Looking-8-at-it!"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SecuredOpenSearch, Path]]:
    """One server for this file, and the folder of its authority."""
    directory = tmp_path_factory.mktemp("authority")
    users = {"carrier": (SHIPPER, "into_open"), "watcher": (READER, "only_read")}
    server = SecuredOpenSearch(directory, users, {"into_open": _write("open-*"), "only_read": READ})
    try:
        server.start()
        yield server, directory
    finally:
        server.close()


async def test_a_role_without_bulk_parks_all_and_heals(
    secured: tuple[SecuredOpenSearch, Path], output: Make, name: str
) -> None:
    """A whole 403: nothing may be written at all. Once the role may, the same output delivers."""
    server, directory = secured
    writer = output(server, username="watcher", password=READER, ca_file=str(directory / "ca.pem"))
    found = await writer.write(request(f"open-{name}", [{}]))
    assert isinstance(found, ParkAll)
    assert "refuses user watcher: 403 security_exception" in found.why
    assert READER not in found.why
    server.put("roles/only_read", _write("open-*"))
    try:
        assert await writer.write(request(f"open-{name}", [{}])) == AllDelivered()
    finally:
        server.put("roles/only_read", READ)


async def test_a_forbidden_index_parks_alone(secured: tuple[SecuredOpenSearch, Path], output: Make, name: str) -> None:
    """A 200 with item 403: that index waits, the other of the same request takes its event."""
    server, directory = secured
    writer = output(server, username="carrier", password=SHIPPER, ca_file=str(directory / "ca.pem"))
    both = request(f"open-{name}", [{}, {}])
    both.parts[0].destinations = [f"shut-{name}", f"open-{name}"]
    found, delivered = each(await writer.write(both))
    assert isinstance(found, Park)
    assert found.why.startswith("403 security_exception")
    assert delivered is DELIVERED


def test_a_forbidden_index_and_a_new_password_through_the_daemon(
    tmp_path: Path, secured: tuple[SecuredOpenSearch, Path], name: str
) -> None:
    """What is forbidden waits until the role allows it; a password that is changed there and in its file is used
    without a restart, and stands in no log.
    """
    server, directory = secured
    secret = tmp_path / "secret"
    secret.write_text(SHIPPER + "\n")
    settings: dict[str, Any] = {
        "username": "carrier",
        "password": f"${{file:{secret}}}",
        "ca_file": str(directory / "ca.pem"),
        "template": False,
    }
    config = to_elasticsearch(server.url, "{service_name}", **settings)
    config["outputs"]["elasticsearch"]["index"] = "open-" + name + "-{service_name}"
    shut = to_elasticsearch(server.url, "shut-" + name, **settings)["outputs"]["elasticsearch"]
    config["outputs"]["shut"] = {"type": "elasticsearch", **shut}
    with Daemon(tmp_path, config) as daemon, ForwardSender("127.0.0.1", daemon.forward_port) as sender:
        sender.send("mcp", [(time.time_ns(), {"service_name": "a", "message": str(n)}) for n in range(20)])
        wait_until(lambda: server.count(f"open-{name}-a") == 20, 30, "the allowed ones")
        wait_until(lambda: daemon.status()["outputs"]["shut"]["parked"], 30, "the forbidden index parked")
        server.set_password("carrier", SHIPPER + "2")
        sender.send("mcp", [(time.time_ns(), {"service_name": "a", "message": str(n)}) for n in range(20, 40)])
        wait_until(lambda: daemon.status()["outputs"]["elasticsearch"]["state"] == "parked", 30, "401")
        secret.write_text(SHIPPER + "2\n")
        wait_until(lambda: server.count(f"open-{name}-a") == 40, 30, "what came with the old password")
        server.put("roles/into_open", _write("open-*", "shut-*"))
        wait_until(daemon.drained, 30, "everything delivered")
        daemon.assert_closed()
        assert server.count(f"shut-{name}") == 40
        assert SHIPPER not in daemon.log.read_text()
        server.set_password("carrier", SHIPPER)
        server.put("roles/into_open", _write("open-*"))
