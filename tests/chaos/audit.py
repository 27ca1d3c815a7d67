"""The end of a run: what is stored beside what was sent, and the daemon's own books beside both."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mcp_ingest.engine.search.checks import Between, Everything
from mcp_ingest.engine.search.store import search
from tests.chaos.book import Comparison, key_of
from tests.chaos.scene import Scene
from tests.chaos.senders import SOURCE
from tests.integration.servers import Elasticsearch

_PAGE = 10_000
_DONE = ("delivered", "duplicate", "redirected")
Status = dict[str, Any]


def keys_in_elasticsearch(server: Elasticsearch, index: str) -> Iterator[str]:
    """The key of every document."""
    server.request("POST", f"/{index}-*/_refresh")
    asked = {"size": _PAGE, "sort": ["_doc"], "_source": ["message"]}
    status, answer = server.request("POST", f"/{index}-*/_search?scroll=1m", asked)
    while True:
        assert status == 200, answer
        hits = answer["hits"]["hits"]
        if not hits:
            return
        yield from (key_of(hit["_source"]["message"]) for hit in hits)
        status, answer = server.request("POST", "/_search/scroll", {"scroll": "1m", "scroll_id": answer["_scroll_id"]})


def keys_in_store(directory: Path) -> Iterator[str]:
    """The key of every event of the embedded store."""
    everything, always = Everything(), Between(None, None)
    total = search(directory, everything, always, 1).total
    for hit in search(directory, everything, always, max(total, 1)).hits:
        yield key_of(hit.event["message"])


async def audit(scene: Scene) -> tuple[Comparison, Status, list[str]]:
    """Everything that is wrong, as sentences; what was found, and the daemon's last status. Ends the daemon."""
    running = await scene.daemon.run("status", "--json")
    problems = [] if running.returncode == 0 else [f"`mcp-ingest status` ended with {running.returncode}"]
    status: Status = json.loads(running.stdout)
    problems += books(scene, status)
    code = await scene.daemon.stop()
    if code != 0:
        problems.append(f"SIGTERM at the end: exit code {code}")
    stopped: Status = json.loads((await scene.daemon.run("status", "--json")).stdout)
    if _terms(stopped, "outputs") != _terms(status, "outputs") or _terms(stopped, "inputs") != _terms(status, "inputs"):
        problems.append(f"the stopped spool has another ledger: {stopped['ledger']} and before {status['ledger']}")
    problems += [f"a sum is open: {row}" for row in stopped["sums"] if not row["closed"]]
    keys = keys_in_elasticsearch(scene.server, scene.index) if scene.server else keys_in_store(scene.store)
    compared = scene.book.compare(await asyncio.to_thread(Counter, keys))
    problems += compared.problems()
    if "Traceback" in (said := scene.daemon.log.read_text(errors="replace")):
        problems.append(f"the daemon's log has a traceback: …{said[said.index('Traceback') :][:3000]}")
    return compared, status, problems


def books(scene: Scene, status: Status) -> list[str]:
    """What the daemon's ledger says that is not so.

    With several workers a chunk that is sent again may come to another one, which takes it anew: exactly these events
    are above what was sent, and each is a duplicate at the output.
    """
    problems = [f"a sum is open: {row}" for row in status["sums"] if not row["closed"]]
    ways = _terms(status, "inputs")
    taken = {name: ways.get(_INPUTS.get(name, name), Counter())["accepted"] for name in (SOURCE, *_names(scene))}
    anew = max(taken[SOURCE] - scene.book.sent(SOURCE), 0) if scene.options.workers > 1 else 0
    for name, counted in taken.items():
        sent = scene.book.sent(name)
        if counted != sent + (anew if name == SOURCE else 0):
            problems.append(f"{name}: {sent} events were sent, the ledger has {counted} accepted")
    for name, terms in _terms(status, "outputs").items():
        done = sum(terms[term] for term in _DONE)
        if done != scene.book.sent() + anew or terms["duplicate"] < anew or terms.keys() - {"assigned", *_DONE}:
            problems.append(f"{name}: {scene.book.sent()} events were sent, the ledger has {dict(terms)}")
    if status["spool"]["dead_letters"]:
        problems.append(f"there are {status['spool']['dead_letters']} dead letters")
    return problems


_INPUTS = {SOURCE: "forward"}


def _names(scene: Scene) -> list[str]:
    return [each.name for each in scene.tailed]


def _terms(status: Status, way: str) -> dict[str, Counter[str]]:
    """By name of the input or output, how many events each term of the ledger has."""
    found: dict[str, Counter[str]] = {}
    for row in status["ledger"][way]:
        found.setdefault(row[way.removesuffix("s")], Counter())[row["term"]] += row["count"]
    return found
