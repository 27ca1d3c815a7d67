"""The supervisor's pages, over workers that a small server stands for."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from mcp_ingest.config.model import HttpSettings
from mcp_ingest.errors import SpoolError
from mcp_ingest.metrics import Metrics
from mcp_ingest.web import all_workers
from mcp_ingest.web.all_workers import Counted, WorkerLetters, serving
from mcp_ingest.web.letters import Order


class _Worker:
    """A worker as its supervisor sees it, and its pages."""

    def __init__(self, index: int, received: int) -> None:
        self.index, self.lives, self.pid = index, 1, 100 + index
        self.listening: dict[str, str] | None = {"f": "tcp"}
        self.spools = (index,)
        self.address = ""
        self.pages: dict[str, Any] = {
            "/-/ready": "ready",
            "/metrics": f"# TYPE mcp_ingest_commits_total counter\nmcp_ingest_commits_total {received}.0\n",
            "/status": {
                "ready": None,
                "version": "1",
                "inputs": {"f": {"listening": "tcp", "received": received}},
                "outputs": {},
                "sums": [{"sum": "way in: f", "left": received, "right": received, "closed": True}],
            },
            "/api/why": {"held": [{"id": f"of {index}"}], "searched": 2, "whole": True},
        }
        self.slow = False

    @contextlib.asynccontextmanager
    async def asked(self, seconds: float) -> AsyncIterator[None]:
        async with asyncio.timeout(seconds):
            yield

    async def answer(self, request: web.Request) -> web.Response:
        if self.slow:
            await asyncio.sleep(3)
        found = self.pages.get(request.path)
        if found is None:
            return web.json_response({"error": "nothing there"}, status=404)
        return web.Response(text=found) if isinstance(found, str) else web.json_response(found)


class _Supervisor:
    def __init__(self, members: list[_Worker]) -> None:
        self.members, self.metrics = members, Metrics()

    def ready(self) -> str | None:
        missing = [each.index for each in self.members if each.listening is None]
        return f"workers that do not listen: {missing}" if missing else None


@pytest.fixture
async def pages(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[list[_Worker], str]]:
    """Two workers that have received 3 and 4 events, and the supervisor's address."""
    for patience in ("ANSWER_SECONDS", "SEARCH_SECONDS"):
        monkeypatch.setattr(all_workers, patience, 0.5)
    workers = [_Worker(0, 3), _Worker(1, 4)]
    async with contextlib.AsyncExitStack() as stack:
        for worker in workers:
            application = web.Application()
            application.router.add_route("*", "/{tail:.*}", worker.answer)
            runner = web.AppRunner(application, shutdown_timeout=0.1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            worker.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        supervisor: Any = _Supervisor(workers)
        yield workers, await stack.enter_async_context(serving(supervisor, HttpSettings(port=0)))


async def _get(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text()


async def test_status_of_all(pages: tuple[list[_Worker], str]) -> None:
    """Numbers are added, the workers stand in rows of their own."""
    _, address = pages
    found = json.loads((await _get(f"{address}/status"))[1])
    assert found["inputs"]["f"] == {"listening": "tcp", "received": 7}
    assert found["ready"] is None
    assert [(each["worker"], each["state"], each["received"]) for each in found["workers"]] == [
        (0, "listening", 3),
        (1, "listening", 4),
    ]
    assert found["sums"] == [{"sum": "way in: f", "left": 7, "right": 7, "closed": True}]


async def test_another_site_s_name_reads_nothing(pages: tuple[list[_Worker], str]) -> None:
    """The supervisor's pages ask for a name of ours, as a daemon's do."""
    _, address = pages
    async with aiohttp.ClientSession() as session:
        for page, status in (("/status", 403), ("/api/why?id=x", 403), ("/-/ready", 200), ("/metrics", 200)):
            async with session.get(address + page, headers={"Host": "rebound.example.com"}) as answer:
                assert answer.status == status, page


async def test_a_worker_that_does_not_answer(pages: tuple[list[_Worker], str]) -> None:
    """It is said to be silent, the others speak; readiness is that of all."""
    workers, address = pages
    assert await _get(f"{address}/-/ready") == (200, "ready\n")
    workers[1].slow = True
    found = json.loads((await _get(f"{address}/status"))[1])
    assert found["inputs"]["f"]["received"] == 3
    assert [each["state"] for each in found["workers"]] == ["listening", "silent"]
    assert await _get(f"{address}/-/ready") == (503, "worker 1: no answer\n")
    workers[0].listening = None
    found = json.loads((await _get(f"{address}/status"))[1])
    assert [each["state"] for each in found["workers"]] == ["starting", "silent"]
    assert found["outputs"] == {}
    assert (await _get(f"{address}/api/why?id=x"))[0] == 503
    assert (await _get(f"{address}/-/healthy"))[0] == 200


async def test_a_worker_s_restart_is_no_drop(pages: tuple[list[_Worker], str]) -> None:
    """What was counted in a life that is over still counts; while it is away, what it said last."""
    workers, address = pages

    async def commits() -> float:
        families = text_string_to_metric_families((await _get(f"{address}/metrics"))[1])
        return next(each.samples[0].value for each in families if each.name == "mcp_ingest_commits")

    assert await commits() == 7
    workers[1].listening = None
    assert await commits() == 7
    workers[1].listening, workers[1].lives = {"f": "tcp"}, 2
    workers[1].pages["/metrics"] = "# TYPE mcp_ingest_commits_total counter\nmcp_ingest_commits_total 1.0\n"
    assert await commits() == 8
    assert await commits() == 8


def test_the_ledger_is_not_counted_twice() -> None:
    """Its counters go on in the next life where they were."""
    text = "# TYPE mcp_ingest_input_events_total counter\nmcp_ingest_input_events_total 5.0\n"
    counted = Counted()
    for life in (1, 2):
        counted.saw(life, list(text_string_to_metric_families(text)))
    assert [each.samples[0].value for each in counted.families()] == [5.0]


async def test_why_of_all(pages: tuple[list[_Worker], str]) -> None:
    """What each of them knows stands side by side; a refusal is passed on."""
    workers, address = pages
    found = json.loads((await _get(f"{address}/api/why?id=x"))[1])
    assert found == {"held": [{"id": "of 0"}, {"id": "of 1"}], "searched": 4, "whole": True}
    del workers[0].pages["/api/why"]
    assert (await _get(f"{address}/api/why?id=x"))[0] == 404


async def test_letters_of_a_worker_that_is_away(pages: tuple[list[_Worker], str]) -> None:
    """Who asks is told to try again; what a worker refuses is its own sentence."""
    workers, address = pages
    workers[1].listening = None
    status, text = await _get(f"{address}/api/dead-letters")
    assert status == 503
    assert "worker 1 is being started" in text or "nothing there" in text
    async with aiohttp.ClientSession() as session:
        worker: Any = workers[0]
        letters = WorkerLetters(worker, 0, session)
        assert await letters.letter(4) is None
        worker.address = "http://127.0.0.1:1"
        with pytest.raises(SpoolError, match="worker 0 does not answer"):
            await WorkerLetters(worker, 0, session).drop(Order(all=True))


async def _post(url: str, order: Any) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as session, session.post(url, json=order) as answer:
        return answer.status, await answer.json()


async def test_backlogs_of_all(pages: tuple[list[_Worker], str]) -> None:
    """They are added; an order goes to the workers that have such a backlog, and one that is away is told of."""
    workers, address = pages
    for worker, events in zip(workers, (2, 3), strict=True):
        held = {"events": events, "bytes": 10, "oldest": 100 + events}
        worker.pages["/api/backlogs"] = {"backlogs": {"old (file)": held, f"of {worker.index}": held}}
        worker.pages["/api/backlogs/drop"] = {"events": events}
    found = json.loads((await _get(f"{address}/api/backlogs"))[1])["backlogs"]
    assert found["old (file)"] == {"events": 5, "bytes": 20, "oldest": 102}
    assert await _post(f"{address}/api/backlogs/drop", {"output": "old (file)"}) == (200, {"events": 5})
    assert await _post(f"{address}/api/backlogs/drop", {"output": "of 1"}) == (200, {"events": 3})
    assert (await _post(f"{address}/api/backlogs/drop", {"to": "x"}))[0] == 400
    assert (await _post(f"{address}/api/backlogs/move", {"output": "old (file)", "to": "x"}))[0] == 404
    workers[1].listening = None
    status, answer = await _post(f"{address}/api/backlogs/drop", {"output": "old (file)"})
    assert (status, answer["error"]) == (409, "worker 1 does not answer: what it has of it is still there")
