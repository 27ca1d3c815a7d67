"""The pages of removed outputs' backlogs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.engine.live import send
from tests.web.served import post, served

_JSON = {"Content-Type": "application/json"}


async def _ask(url: str, body: str | None = None) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as session:
        call = session.get(url) if body is None else session.post(url, data=body, headers=_JSON)
        async with call as answer:
            return answer.status, await answer.json()


async def test_they_are_listed_moved_and_dropped(tmp_path: Path) -> None:
    """By `name (type)`; what is not there is refused with the reason, and a wrong order is."""
    (tmp_path / "closed").touch()
    old = {"type": "file", "path": str(tmp_path / "closed" / "x")}
    async with served(tmp_path) as (live, address):
        pages = address + "/api/backlogs"
        await live.reload(outputs={"one": old, "two": old})
        with live.sender() as sender:
            await send(sender, "a", "b")
        await live.reload(outputs={"hole": {"type": "blackhole"}})
        _, found = await _ask(pages)
        assert {name: each["events"] for name, each in found["backlogs"].items()} == {"one (file)": 2, "two (file)": 2}
        assert await _ask(pages + "/move", '{"output": "one (file)", "to": "hole"}') == (200, {"events": 2})
        assert await _ask(pages + "/drop", '{"output": "two (file)"}') == (200, {"events": 2})
        assert (await _ask(pages))[1] == {"backlogs": {}}
        assert await _ask(pages + "/drop", '{"output": "two (file)"}') == (200, {"events": 0})
        status, answer = await _ask(pages + "/drop", '{"output": "hole (blackhole)"}')
        assert (status, answer["error"]) == (409, "there is no backlog of a removed output 'hole (blackhole)'")
        assert (await _ask(pages + "/move", '{"output": "one (file)", "to": "nowhere"}'))[0] == 409
        assert (await _ask(pages + "/move", '{"output": "one (file)"}'))[0] == 400
        live.assert_closed()


@pytest.mark.parametrize("verb", ["move", "drop"])
async def test_a_page_of_another_site_cannot_touch_them(tmp_path: Path, verb: str) -> None:
    """As with everything that changes something."""
    async with served(tmp_path) as (_, address):
        assert (await post(f"{address}/api/backlogs/{verb}", Origin="http://evil.example"))[0] == 403
