"""The pages of a running daemon."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import yaml
from aiohttp import web

from mcp_ingest.config.load import load
from mcp_ingest.config.model import HttpSettings
from mcp_ingest.engine.daemon import Daemon
from mcp_ingest.errors import IngestError
from mcp_ingest.metrics import Metrics, catalogue
from mcp_ingest.web.server import _application, is_token, runner_of, serving
from mcp_ingest.web.site import Site
from tests.engine.parts import until


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[tuple[Daemon, str]]:
    """A daemon that has delivered one event and has one dead letter, and its address."""
    (tmp_path / "a.log").write_text('{"message": "fine"}\n{"message": broken\n')
    config = {
        "inputs": {"files": {"type": "tail", "paths": [str(tmp_path / "*.log")], "start_at": "head"}},
        "pipelines": {"p": {"match": "**", "stages": ["parse_json", "redact"]}},
        "outputs": {"archive": {"type": "file", "path": str(tmp_path / "archive.ndjson")}},
        "spool": {"directory": str(tmp_path / "spool")},
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    daemon = Daemon(load(str(path)), Metrics(), logging.getLogger("test"))
    async with serving(daemon, HttpSettings(port=0)) as address, asyncio.TaskGroup() as group:
        group.create_task(daemon.run())
        await until(lambda: daemon.graph.listens.is_set() and daemon.spool.usage().dead_letters == 1)
        await until(lambda: daemon.status()["outputs"]["archive"]["delivered"] == 1)
        try:
            yield daemon, address
        finally:
            daemon.stop()


async def _get(url: str, **headers: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        return answer.status, await answer.text()


async def test_metrics_are_the_ledger_s(running: tuple[Daemon, str]) -> None:
    """`/metrics` has the ledger, the spool and the histograms; every name is declared in the catalogue."""
    status, text = await _get(running[1] + "/metrics")
    assert status == 200
    assert 'mcp_ingest_input_events_total{input="files",pipeline="p",reason="",term="received"} 2.0' in text
    assert 'mcp_ingest_output_events_total{output="archive",reason="",term="delivered"} 1.0' in text
    assert 'mcp_ingest_dead_letters{reason="stage"} 1.0' in text
    assert 'mcp_ingest_dead_letter_events_total{reason="stage",term="dead_lettered"} 1.0' in text
    assert "mcp_ingest_dead_letter_bytes " in text
    assert "mcp_ingest_dead_letter_oldest_age_seconds " in text
    assert "mcp_ingest_delivery_seconds_bucket" in text
    assert "mcp_ingest_ingest_to_delivery_seconds_count" in text
    declared = {metric.name for metric in catalogue()}
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert {name.removesuffix("_total").removesuffix("_created") for name in names} <= declared


async def test_health(running: tuple[Daemon, str]) -> None:
    """Alive and ready while it runs; not ready, with the reason, once it shuts down."""
    daemon, address = running
    assert await _get(address + "/-/healthy") == (200, "alive\n")
    assert await _get(address + "/-/ready") == (200, "ready\n")
    daemon.stop()
    assert await _get(address + "/-/ready") == (503, "shutting down\n")


async def test_dead_letters(running: tuple[Daemon, str]) -> None:
    """Letters are listed newest first and shown one by one; what is not there is a 404."""
    _, address = running
    status, text = await _get(address + "/api/dead-letters")
    assert status == 200
    assert '"stage":"parse_json"' in text
    assert (await _get(address + "/api/dead-letters/1"))[0] == 200
    assert (await _get(address + "/api/dead-letters/99"))[0] == 404
    assert (await _get(address + "/api/dead-letters?limit=many"))[0] == 400


async def test_why(running: tuple[Daemon, str]) -> None:
    """What is known of an id is JSON, with the letters whole; without an id it is an error."""
    _, address = running
    letter = json.loads((await _get(address + "/api/dead-letters"))[1])["letters"][0]
    status, text = await _get(f"{address}/api/why?id={letter['event_id']}")
    assert (status, json.loads(text)["letters"]) == (200, [letter])
    assert (await _get(address + "/api/why"))[0] == 400


async def test_a_port_that_is_taken(running: tuple[Daemon, str]) -> None:
    """The reason names the address."""
    daemon, address = running
    port = int(address.rsplit(":", 1)[1])
    fresh = Daemon(daemon.config, Metrics(), logging.getLogger("test"))
    with pytest.raises(IngestError, match=str(port)):
        async with serving(fresh, HttpSettings(port=port)):
            pass


@pytest.mark.parametrize("token", [None, "s3cret"])
async def test_from_outside_a_token_is_needed(
    running: tuple[Daemon, str], token: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Off loopback only metrics and health are open; the rest asks for the token, and without one is closed."""
    from mcp_ingest.web import server

    monkeypatch.setattr(server, "_LOOPBACK", frozenset())
    fresh = Daemon(running[0].config, Metrics(), logging.getLogger("test"))
    async with serving(fresh, HttpSettings(port=0, token=token)) as address:
        assert (await _get(address + "/-/healthy"))[0] == 200
        assert (await _get(address + "/status"))[0] == 401
        assert (await _get(address + "/status", Authorization="Bearer wrong"))[0] == 401
        given = await _get(address + "/api/dead-letters?limit=x", Authorization="Bearer s3cret")
        assert given[0] == (400 if token else 401)


@pytest.mark.parametrize(
    ("host", "taken"),
    [
        ("127.0.0.1:24231", True),
        ("[::1]:24231", True),
        ("[::1]", True),
        ("192.168.1.7", True),
        ("localhost:24231", True),
        ("LOCALHOST", True),
        ("Logs.example.com:24231", True),
        ("rebound.example.com:24231", False),
        ("localhost.example.com", False),
        ("127.0.0.1.example.com", False),
        ("user@rebound.example.com", False),
        ("[::1", False),
        ("", False),
    ],
)
async def test_another_site_s_name_reads_nothing(running: tuple[Daemon, str], host: str, taken: bool) -> None:
    """From this machine without a token: only by an address, `localhost` or `http.host`; what is open stays open."""
    fresh = Daemon(running[0].config, Metrics(), logging.getLogger("test"))
    application = _application(fresh, Site(HttpSettings(host="logs.example.com", token="s3cret")))
    async with runner_of(application) as runner:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        for page in ("/status", "/api/dead-letters?limit=x", "/api/why", "/nothing"):
            status, text = await _get(address + page, Host=host)
            assert (status != 403) is taken, page
            assert taken or "localhost" in json.loads(text)["error"]
        assert (await _get(address + "/status", Host=host, Authorization="Bearer s3cret"))[0] == 200
        for page in ("/metrics", "/-/healthy", "/-/ready"):
            assert (await _get(address + page, Host=host))[0] in (200, 503)


async def test_what_is_asked_is_bounded(running: tuple[Daemon, str]) -> None:
    """A negative or huge number, or a header that is no text, is answered, and never with everything or a 500."""
    _, address = running
    for question in ("?limit=-1", "?limit=0", "?before=-99999999999999999999", "?since=now", "?colour=red"):
        for page in ("/api/dead-letters", "/api/dead-letters/groups"):
            assert (await _get(address + page + question))[0] == 400, question
    assert (await _get(address + "/api/dead-letters?limit=99999999"))[0] == 200
    assert (await _get(address + "/api/dead-letters?before=99999999999999999999"))[0] == 400
    assert (await _get(address + "/api/dead-letters/99999999999999999999"))[0] == 404


async def test_a_spool_that_is_not_open_yet(running: tuple[Daemon, str]) -> None:
    """Before the spool is open the pages that need it say so; metrics and status are there."""
    fresh = Daemon(running[0].config, Metrics(), logging.getLogger("test"))
    async with serving(fresh, HttpSettings(port=0)) as address:
        for page in ("/api/dead-letters", "/api/dead-letters/1"):
            assert (await _get(address + page))[0] == 503
        for page in ("/metrics", "/status"):
            assert (await _get(address + page))[0] == 200


def test_a_token_is_compared_whatever_was_sent() -> None:
    """A header with bytes that are no UTF-8 is a wrong token."""
    assert not is_token("Bearer \udcff", "secret")
    assert is_token("Bearer secret", "secret")
    assert not is_token("", None)
