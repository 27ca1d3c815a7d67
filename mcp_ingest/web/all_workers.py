"""The supervisor's pages: each asks all workers and makes one answer of theirs.

A worker that does not answer in time is left out of `/status`, whose `workers` say so; in `/metrics` what it counted
stays, so that a worker's restart is no drop: a counter that drops looks like one that began anew.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection
from typing import Any, NamedTuple

import aiohttp
import msgspec
import orjson
from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from mcp_ingest.config.model import HttpSettings
from mcp_ingest.engine.member import Member
from mcp_ingest.engine.supervisor import Supervisor
from mcp_ingest.engine.together import together
from mcp_ingest.errors import SpoolError
from mcp_ingest.metrics import catalogue
from mcp_ingest.web.all_letters import AllLetters
from mcp_ingest.web.dead_letters import DeadLetterPages, json_response
from mcp_ingest.web.families import merged, page_of, parsed
from mcp_ingest.web.letters import Order, Question
from mcp_ingest.web.server import guard, runner_of
from mcp_ingest.web.site import Site

_NOTHING: dict[str, Any] = {
    "inputs": {}, "outputs": {}, "ledger": {"inputs": [], "outputs": [], "dead_letters": []}, "sums": [],
}  # fmt: skip
_JSON = {"Content-Type": "application/json"}
#: Seconds that a worker has for an answer, for one that takes a look through the spool, for a batch of dead letters,
#: for a reload, for a backlog that is moved or dropped.
ANSWER_SECONDS, SEARCH_SECONDS, LETTERS_SECONDS, RELOAD_SECONDS, BACKLOG_SECONDS = 3.0, 15.0, 120.0, 90.0, 3600.0


@contextlib.asynccontextmanager
async def serving(supervisor: Supervisor, settings: HttpSettings) -> AsyncIterator[str]:
    """Serve the pages of all workers for the length of a block; yields the address."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(None)) as session:
        pages = _Pages(supervisor, session)
        site = Site(settings)
        application = web.Application(middlewares=[guard(site)])
        application.add_routes(
            [
                web.get("/metrics", pages.metrics),
                web.get("/-/healthy", pages.healthy),
                web.get("/-/ready", pages.ready),
                web.get("/status", pages.status),
                web.get("/api/why", pages.why),
                web.post("/-/reload", pages.reload),
                web.get("/api/backlogs", pages.backlogs),
                web.post("/api/backlogs/{order:move|drop}", pages.order_backlog),
                *DeadLetterPages(AllLetters(lambda: _letters(supervisor, session))).routes(),
            ]
        )
        async with runner_of(application) as runner:
            yield await site.open(runner)


class WorkerLetters:
    """`Letters` of one spool, asked of the worker that has it; SpoolError where that does not answer."""

    def __init__(self, member: Member, index: int, session: aiohttp.ClientSession) -> None:
        self._member = member
        self._session = session
        self._pages = f"{member.address}/spools/{index}/api/dead-letters"

    async def page(self, asked: Question) -> dict[str, Any]:
        """See `Letters`."""
        return await self._get("", asked)

    async def groups(self, asked: Question) -> dict[str, Any]:
        """See `Letters`."""
        return await self._get("/groups", asked)

    async def letter(self, number: int) -> dict[str, Any] | None:
        """See `Letters`."""
        found = await self._answer("GET", f"/{number}")
        return None if "error" in found else found

    async def preview(self, order: Order) -> dict[str, Any]:
        """See `Letters`."""
        return await self._post("/preview", order)

    async def replay(self, order: Order) -> dict[str, Any]:
        """See `Letters`."""
        return await self._post("/replay", order)

    async def drop(self, order: Order) -> dict[str, Any]:
        """See `Letters`."""
        return await self._post("/drop", order)

    async def _get(self, page: str, asked: Question) -> dict[str, Any]:
        return await self._answer("GET", page, params=_said(asked))

    async def _post(self, page: str, order: Order) -> dict[str, Any]:
        return await self._answer("POST", page, json=_said(order))

    async def _answer(self, method: str, page: str, **named: Any) -> dict[str, Any]:
        if self._member.listening is None:
            raise SpoolError(f"worker {self._member.index} is being started: try again")
        question = self._session.request(method, self._pages + page, **named)
        try:
            async with self._member.asked(LETTERS_SECONDS), question as answer:
                found: dict[str, Any] = orjson.loads(await answer.read())
        except (aiohttp.ClientError, TimeoutError) as error:
            raise SpoolError(f"worker {self._member.index} does not answer: {error}") from error
        if answer.status == 400:
            raise msgspec.ValidationError(found["error"])
        if answer.status not in (200, 404):
            raise SpoolError(found["error"])
        return found


def _letters(supervisor: Supervisor, session: aiohttp.ClientSession) -> dict[int, WorkerLetters]:
    """Those of every spool, by the number of the worker whose it is or was."""
    return {index: WorkerLetters(member, index, session) for member in supervisor.members for index in member.spools}


def _said(asked: Question | Order) -> dict[str, Any]:
    """What of a question is not its default."""
    found: dict[str, Any] = msgspec.to_builtins(asked)
    return {name: value for name, value in found.items() if value is not None}


class Counted:
    """What one worker has counted, over all its lives."""

    def __init__(self) -> None:
        self._life = 0
        self._before: list[Metric] = []  # of lives that are over
        self._last: list[Metric] = []

    def saw(self, life: int, families: list[Metric]) -> None:
        """Take what it says in this life."""
        if life != self._life:
            self._before = merged([self._before, _lost_with_the_process(self._last)])
        self._life, self._last = life, families

    def families(self) -> list[Metric]:
        """All of it; while it does not answer, what it said last."""
        return merged([self._before, self._last])


def _lost_with_the_process(families: list[Metric]) -> list[Metric]:
    """Counters that begin at nought with each process; those of the ledger go on where they were."""
    lasting = {metric.name for metric in catalogue() if metric.collected}
    return [each for each in families if each.type in ("counter", "histogram") and each.name not in lasting]


class _BacklogOrder(msgspec.Struct):
    """What of an order says which workers it is for."""

    output: str


class _Answer(NamedTuple):
    """What a worker said, and in which of its lives."""

    life: int
    status: int
    text: str


class _Pages:
    def __init__(self, supervisor: Supervisor, session: aiohttp.ClientSession) -> None:
        self._supervisor = supervisor
        self._session = session
        self._counted: dict[int, Counted] = {}

    async def healthy(self, request: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def ready(self, request: web.Request) -> web.Response:
        why = self._supervisor.ready()
        if why is None:
            answers = await self._ask("/-/ready")
            silent = [f"worker {n}: no answer" for n in range(len(self._supervisor.members)) if n not in answers]
            not_ready = [f"worker {n}: {each.text.strip()}" for n, each in answers.items() if each.status != 200]
            why = "; ".join(silent + not_ready) or None
        return web.Response(text=f"{why or 'ready'}\n", status=503 if why else 200)

    async def metrics(self, request: web.Request) -> web.Response:
        for index, answer in (await self._ask("/metrics")).items():
            counted = self._counted.setdefault(index, Counted())
            counted.saw(answer.life, parsed(answer.text))
        own = parsed(generate_latest(self._supervisor.metrics.registry).decode())
        body = page_of(merged([own, *(each.families() for each in self._counted.values())]))
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def status(self, request: web.Request) -> web.Response:
        answers = {n: orjson.loads(each.text) for n, each in (await self._ask("/status")).items() if each.status == 200}
        reasons = [f"worker {n}: {each.pop('ready')}" for n, each in answers.items() if each["ready"] is not None]
        ready = self._supervisor.ready() or "; ".join(reasons) or None
        workers = [self._worker(member, answers.get(member.index)) for member in self._supervisor.members]
        return json_response({**(together(list(answers.values())) or _NOTHING), "ready": ready, "workers": workers})

    def _worker(self, member: Member, answer: Any) -> dict[str, Any]:
        """A worker's own row."""
        received = sum(each["received"] for each in answer["inputs"].values()) if answer else None
        state = "starting" if member.listening is None else "listening" if answer else "silent"
        return {
            "worker": member.index,
            "process": member.pid,
            "state": state,
            "restarts": max(0, member.lives - 1),
            "received": received,
        }

    async def reload(self, request: web.Request) -> web.Response:
        """Every worker reads the configuration again; 409 with every reason where one of them goes on with the old."""
        answers = await self._ask("/-/reload", RELOAD_SECONDS, b"{}")
        found = {index: orjson.loads(answer.text) for index, answer in answers.items()}
        refused = [index for index, answer in answers.items() if answer.status != 200]
        missing = [each.index for each in self._supervisor.members if each.index not in answers]
        if not refused and not missing:
            return json_response(together(list(found.values())))
        problems = dict.fromkeys(problem for index in refused for problem in found[index]["problems"])
        sentences = [
            *problems,
            *(f"worker {index} does not answer: it reads the file at its start" for index in missing),
        ]
        if len(refused) + len(missing) < len(self._supervisor.members):
            sentences.append("the other workers have taken the new configuration")
        return json_response({"error": "; ".join(sentences), "problems": sentences}, 409)

    async def backlogs(self, request: web.Request) -> web.Response:
        """What each removed output owes, of all workers."""
        answers = await self._ask("/api/backlogs")
        return json_response(together([orjson.loads(each.text) for each in answers.values()]) or {"backlogs": {}})

    async def order_backlog(self, request: web.Request) -> web.Response:
        """Passed on to the workers that have such a backlog; 409 where one of them does not do it."""
        order = await request.read()
        name = msgspec.json.decode(order, type=_BacklogOrder).output
        listed = await self._ask("/api/backlogs")
        owing = [index for index, each in listed.items() if name in orjson.loads(each.text)["backlogs"]]
        asked = owing or list(listed)[:1]
        answers = await self._ask(request.path, BACKLOG_SECONDS, order, asked)
        refused = [answer for answer in answers.values() if answer.status != 200]
        if refused:
            return web.Response(text=refused[0].text, status=refused[0].status, content_type="application/json")
        if missing := [member.index for member in self._supervisor.members if member.index not in listed] + [
            index for index in asked if index not in answers
        ]:
            sentences = [f"worker {index} does not answer: what it has of it is still there" for index in missing]
            return json_response({"error": "; ".join(sentences)}, 409)
        return json_response(together([orjson.loads(each.text) for each in answers.values()]))

    async def why(self, request: web.Request) -> web.Response:
        answers = (await self._ask(request.path_qs, SEARCH_SECONDS)).values()
        refused = [each for each in answers if each.status != 200]
        if refused or not answers:
            answer = refused[0] if refused else _Answer(0, 503, '{"error": "no worker answers"}')
            return web.Response(text=answer.text, status=answer.status, content_type="application/json")
        return json_response(together([orjson.loads(each.text) for each in answers]))

    async def _ask(
        self, path: str, seconds: float | None = None, order: bytes | None = None, only: Collection[int] | None = None
    ) -> dict[int, _Answer]:
        """What the workers say that listen and answer in time, by their numbers; an order (JSON) is posted."""
        members = [each for each in self._supervisor.members if each.listening is not None]
        members = members if only is None else [each for each in members if each.index in only]
        patience = seconds or ANSWER_SECONDS
        answers = await asyncio.gather(*(self._answer(member, path, patience, order) for member in members))
        return {member.index: each for member, each in zip(members, answers, strict=True) if each is not None}

    async def _answer(self, member: Member, path: str, seconds: float, order: bytes | None) -> _Answer | None:
        life, url = member.lives, f"{member.address}{path}"
        question = self._session.get(url) if order is None else self._session.post(url, data=order, headers=_JSON)
        try:
            async with member.asked(seconds), question as answer:
                text = await answer.text()
        except (aiohttp.ClientError, TimeoutError):
            return None
        return _Answer(life, answer.status, text) if member.lives == life else None
