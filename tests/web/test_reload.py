"""`POST /-/reload`: what it answers, and from whom it takes the order."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from tests.web.served import post, served


async def test_it_says_what_changed(tmp_path: Path) -> None:
    """Once it is done: what is added, changed, removed and kept."""
    async with served(tmp_path) as (live, address):
        live.write(outputs={"archive": live.file("all"), "hole": {"type": "blackhole"}})
        status, answer = await post(address + "/-/reload")
        assert status == 200
        assert answer["outputs"] == {"added": ["hole"], "changed": [], "removed": [], "kept": ["archive"]}
        assert answer["inputs"]["kept"] == ["forward"]
        assert list(live.daemon.graph.outputs) == ["archive", "hole"]


async def test_it_says_why_nothing_changed(tmp_path: Path) -> None:
    """Every mistake, as `check` words them."""
    async with served(tmp_path) as (live, address):
        live.write(outputs={"archive": {"type": "fiel"}, "hole": {"type": "blackhol"}})
        status, answer = await post(address + "/-/reload")
        assert status == 409
        assert len(answer["problems"]) == 2
        assert "did you mean `file`?" in answer["problems"][0]
        assert list(live.daemon.graph.outputs) == ["archive"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
async def test_a_page_of_another_site_cannot_reload(tmp_path: Path, headers: dict[str, str], status: int) -> None:
    """A browser on this machine is loopback, too: neither a form nor a script of a foreign page gets through."""
    async with served(tmp_path) as (live, address):
        live.write(outputs={"hole": {"type": "blackhole"}})
        assert (await post(address + "/-/reload", **headers))[0] == status
        async with aiohttp.ClientSession() as session, session.get(address + "/-/reload") as answer:
            assert answer.status == 405
        assert list(live.daemon.graph.outputs) == ["archive"]
