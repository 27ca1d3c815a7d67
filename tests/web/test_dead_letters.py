"""The pages of dead letters: lists, groups, previews, replays, drops, and who may not."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from mcp_ingest.config.load import load
from mcp_ingest.config.model import HttpSettings
from mcp_ingest.engine.daemon import Daemon
from mcp_ingest.metrics import Metrics
from mcp_ingest.web.server import serving
from tests.engine.parts import until

LINES = [
    '{"message": "fine"}',
    *[f'{{"message": broken {n}}}' for n in range(5)],
    '{"message": "teapot", "status_code": 418}',
]


class Site:
    """A running daemon's pages."""

    def __init__(self, daemon: Daemon, address: str) -> None:
        self.daemon = daemon
        self.address = address + "/api/dead-letters"

    async def get(self, path: str) -> tuple[int, Any]:
        async with aiohttp.ClientSession() as session, session.get(self.address + path) as answer:
            return answer.status, await answer.json()

    async def post(self, path: str, body: Any, **headers: str) -> tuple[int, Any]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **headers}
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.address + path, data=data, headers=headers) as answer,
        ):
            return answer.status, await answer.json()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A daemon that has delivered two events and has five dead letters of one group."""
    (tmp_path / "a.log").write_text("\n".join(LINES) + "\n")
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
        await until(lambda: daemon.graph.listens.is_set() and daemon.spool.usage().dead_letters == 5)
        try:
            yield Site(daemon, address)
        finally:
            daemon.stop()


async def test_groups_and_pages_take_filters(site: Site) -> None:
    """Five reasons that differ in a column are one group; what does not fit is not shown."""
    status, answer = await site.get("/groups")
    assert status == 200
    (group,) = answer["groups"]
    assert (group["letters"], group["input"], group["pipeline"], group["stage"]) == (5, "files", "p", "parse_json")
    assert answer["count"] == 1
    for question, count in (
        ("?stage=parse_json", 5), ("?stage=redact", 0), ("?output=archive", 0), ("?since=1", 5), ("?reason=json", 5),
        (f"?group={group['signature']}", 5), ("?limit=2", 2), ("?before=3", 2), (f"?since={2**62}", 0),
    ):  # fmt: skip
        status, answer = await site.get(question)
        assert (status, len(answer["letters"])) == (200, count), question
    status, answer = await site.get("/groups?stage=redact")
    assert (status, answer) == (200, {"groups": [], "count": 0})


async def test_a_replay_is_previewed_and_done(site: Site) -> None:
    """The preview changes nothing; the replay dies again where nothing was mended, and everything is accounted for."""
    status, answer = await site.post("/preview", {"all": True, "limit": 2})
    assert status == 200
    assert answer["count"] == 5
    assert [each["outcome"] for each in answer["previews"]] == ["dead letter", "dead letter"]
    assert answer["previews"][0]["before"]["message"] == '{"message": broken 4}'
    assert site.daemon.spool.usage().dead_letters == 5
    status, answer = await site.post("/replay", {"numbers": [1, 2]})
    assert (status, answer) == (200, {"count": 2, "died": 2, "kept": [], "after": 5, "until": 5})
    assert site.daemon.spool.usage().dead_letters == 5
    assert all(row["closed"] for row in site.daemon.status()["sums"])


async def test_letters_are_dropped(site: Site) -> None:
    """Those that are meant, counted."""
    assert (await site.post("/drop", {"numbers": [1, 99]}))[1]["count"] == 1
    assert (await site.post("/drop", {"stage": "redact"}))[1]["count"] == 0
    assert (await site.post("/drop", {"stage": "parse_json"}))[1]["count"] == 4
    assert (await site.get(""))[1] == {"letters": []}
    assert all(row["closed"] for row in site.daemon.status()["sums"])


@pytest.mark.parametrize("page", ["/replay", "/drop", "/preview"])
@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        ({"all": True}, {"Content-Type": "text/plain"}, 415),
        ({"all": True}, {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"all": True}, {"Origin": "https://evil.example"}, 403),
        ({"all": True}, {"Origin": "null"}, 403),
        ({"all": True}, {"Origin": "http://localhost:1"}, 403),
        ({}, {}, 400),
        ({"all": False}, {}, 400),
        ({"al": True}, {}, 400),
        ({"numbers": ["1"]}, {}, 400),
        ({"numbers": [-1]}, {}, 400),
        ({"numbers": [2**63]}, {}, 400),
        ({"numbers": list(range(10_001))}, {}, 400),
        ([], {}, 400),
        (b"{", {}, 400),
        (b"", {}, 400),
        (b"\xff", {}, 400),
        (b'{"group": "\\ud800"}', {}, 400),
    ],
)
async def test_what_is_wrong_or_another_site_s_is_refused(
    site: Site, page: str, body: Any, headers: dict[str, str], status: int
) -> None:
    """No page of another site on this machine's browser, and no slip, replays or drops anything."""
    answer = await site.post(page, body, **headers)
    assert answer[0] == status
    assert answer[1]["error"]
    assert [letter.number for letter in await site.daemon.spool.dead_letters.page(10)] == [5, 4, 3, 2, 1]


async def test_our_own_page_may(site: Site) -> None:
    """A page that we serve has our origin."""
    port = site.address.split(":")[2].split("/")[0]
    for name in ("127.0.0.1", "localhost", "[::1]"):
        assert (await site.post("/drop", {"numbers": [99]}, Origin=f"http://{name}:{port}"))[0] == 200


async def test_odd_questions_are_answered(site: Site) -> None:
    """Bytes that are no text in a question are no fault of ours."""
    for question in ("?group=%ff", "?reason=%ed%a0%80", "?output=%00", "?limit=1&limit=2"):
        assert (await site.get(question))[0] in (200, 400), question
        assert (await site.get("/groups" + question))[0] in (200, 400), question


async def test_without_a_token_nobody_from_outside_changes_anything(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Off loopback a replay needs the token like everything else."""
    from mcp_ingest.web import server

    monkeypatch.setattr(server, "_LOOPBACK", frozenset())
    assert (await site.post("/replay", {"all": True}))[0] == 401
    assert (await site.post("/drop", {"all": True}, Authorization="Bearer x"))[0] == 401


async def test_before_the_spool_is_open(site: Site) -> None:
    """A daemon that is just starting says so."""
    fresh = Daemon(site.daemon.config, Metrics(), logging.getLogger("test"))
    async with serving(fresh, HttpSettings(port=0)) as address:
        early = Site(fresh, address)
        for page in ("/replay", "/drop", "/preview"):
            assert (await early.post(page, {"all": True}))[0] == 503
        assert (await early.get("/groups"))[0] == 503
