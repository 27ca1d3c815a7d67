"""The end of a run: what is stored beside what was sent, and the daemon's own books beside both."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mcp_ingest.engine.folders import folder_of, workers_there
from mcp_ingest.engine.search.checks import Between, Everything
from mcp_ingest.engine.search.store import search
from tests.chaos.book import Book, Comparison, key_of
from tests.chaos.scene import Scene
from tests.chaos.senders import SOURCE
from tests.chaos.taken import taken
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
    code = await scene.daemon.stop()
    if code != 0:
        problems.append(f"SIGTERM at the end: exit code {code}")
    anew, found = await asyncio.to_thread(_taken_anew, scene)
    problems += found + books(scene.book, [each.name for each in scene.tailed], status, anew)
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


def books(book: Book, tailed: Iterable[str], status: Status, anew: int) -> list[str]:
    """What the daemon's ledger says that is not so.

    `anew` events were taken a second time, by another worker than the first: exactly these are accepted above what was
    sent, and each is a duplicate at the output.
    """
    problems = [f"a sum is open: {row}" for row in status["sums"] if not row["closed"]]
    ways = _terms(status, "inputs")
    expected = {"forward": book.sent(SOURCE) + anew, **{name: book.sent(name) for name in tailed}}
    for name, count in expected.items():
        if (accepted := ways.get(name, Counter())["accepted"]) != count:
            problems.append(f"{name}: {count} events were taken, the ledger has {accepted} accepted")
    for name, terms in _terms(status, "outputs").items():
        done = sum(terms[term] for term in _DONE)
        if done != book.sent() + anew or terms["duplicate"] < anew or terms.keys() - {"assigned", *_DONE}:
            sent = f"{book.sent()} events were sent, {anew} of them taken twice"
            problems.append(f"{name}: {sent}, the ledger has {dict(terms)}")
    if status["spool"]["dead_letters"]:
        problems.append(f"there are {status['spool']['dead_letters']} dead letters")
    return problems


def _taken_anew(scene: Scene) -> tuple[int, list[str]]:
    """How many events of forward chunks a second worker took too, by the stopped spools; what is wrong about that."""
    folders = [folder_of(scene.spool, index) for index in workers_there(scene.spool)]
    took = [taken(folder, scene.forward.made, scene.peer) for folder in folders]
    anew = sum(took) - scene.book.sent(SOURCE)
    if anew < 0 or (anew and len(folders) == 1):
        return 0, [f"{scene.book.sent(SOURCE)} events were sent in forward chunks, the spools took {took}"]
    return anew, []


def _terms(status: Status, way: str) -> dict[str, Counter[str]]:
    """By name of the input or output, how many events each term of the ledger has."""
    found: dict[str, Counter[str]] = {}
    for row in status["ledger"][way]:
        found.setdefault(row[way.removesuffix("s")], Counter())[row["term"]] += row["count"]
    return found
