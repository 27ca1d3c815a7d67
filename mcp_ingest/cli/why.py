"""Say what became of an event: where it came in, what took it, where it went, when.

Exit code 0: something is known; 1: nothing.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Collection, Iterator
from typing import Any, TypeVar
from urllib.parse import urlencode

import click

from mcp_ingest.cli._letters import moment
from mcp_ingest.cli._shared import ask_daemon, config_option
from mcp_ingest.component import find
from mcp_ingest.config.load import load
from mcp_ingest.config.model import Configuration
from mcp_ingest.context import Context
from mcp_ingest.engine.search import SEARCHABLE, Search, search
from mcp_ingest.engine.why import SECONDS, id_parts, why
from mcp_ingest.errors import IngestError, QueryError, SpoolError
from mcp_ingest.event import id_suffixes
from mcp_ingest.spool.reader import Reader, SpoolReader

Value = TypeVar("Value")

#: Events of one forward chunk that the outputs are asked for: its first ones.
_FIRST = 100
#: Hits that are shown of each output.
_HITS = 20


@click.command()
@config_option
@click.argument("name", metavar="ID")
@click.option("--tag", help="With a forward chunk's id that is not random: the chunk's tag.")
@click.option("--peer", metavar="ADDRESS", help="With such an id: the address that the chunk came from.")
@click.option("--json", "as_json", is_flag=True, help="Print all that is known as one JSON object.")
@click.pass_context
def command(
    context: click.Context, config: str | None, name: str, tag: str | None, peer: str | None, as_json: bool
) -> None:
    """Say what became of an event that is still known: where it came in, what took it, where it went, when.

    \b
    ID is an event's `_id`, a `trace_id`, or the id of a forward chunk.

    Looks through the spool and the dead letters (asks the daemon; when none runs, reads the spool itself), and asks
    the outputs that can be searched. Exit code 0: something is known; 1: nothing.
    """
    configuration = load(config)
    known = _ask(configuration, name, tag, peer)
    known["outputs"] = asyncio.run(_search(configuration, name, known["prefixes"]))
    if as_json:
        click.echo(json.dumps(known, ensure_ascii=False))
    else:
        click.echo("\n".join(lines(name, known)))
    context.exit(0 if is_known(known) else 1)


def is_known(known: dict[str, Any]) -> bool:
    """Whether anything was found at all."""
    hits = any(each["hits"] for each in known["outputs"].values())
    return bool(hits or known["origins"] or known["taken"] or known["held"] or known["letters"])


# --- asking ------------------------------------------------------------------------------------------------


def _ask(configuration: Configuration, name: str, tag: str | None, peer: str | None) -> dict[str, Any]:
    given = {key: value for key, value in (("id", name), ("tag", tag), ("peer", peer)) if value is not None}
    answer = ask_daemon(configuration.http, f"/api/why?{urlencode(given)}", timeout=SECONDS + 10)
    if answer is not None:
        return dict(answer)
    try:
        with SpoolReader(configuration.spool.directory) as spool:
            inputs = {
                each.name: find("input", each.type)(each.settings, Context(each.name, state=spool.positions))
                for each in configuration.inputs.values()
            }
            return asyncio.run(why(name, _Stopped(spool), inputs, tag, peer)).as_json()
    except SpoolError as error:
        raise IngestError(f"no daemon runs, and {error}") from error


class _Stopped:
    """The spool of a daemon that does not run, as `why` asks it."""

    def __init__(self, spool: SpoolReader) -> None:
        self._spool = spool

    async def look(self, question: Callable[[Reader], Value]) -> Value:
        return self._spool.look(question)

    def seen(self, digests: Collection[bytes]) -> set[bytes]:
        return self._spool.seen(digests)


async def _search(configuration: Configuration, name: str, prefixes: list[str]) -> dict[str, Any]:
    """What each output that can be searched has: its hits, or why it could not be asked."""
    terms = [f"trace_id:{_quoted(name)}"]
    if id_parts(name):
        terms.append(f"_id:{_quoted(name)}")
    terms += [f"_id:{_quoted(prefix + suffix)}" for prefix in prefixes for suffix in id_suffixes(range(_FIRST))]
    found: dict[str, Any] = {}
    for output in configuration.outputs.values():
        if output.type not in SEARCHABLE:
            continue
        try:
            answer = await search(output, Search(" OR ".join(terms), limit=_HITS), time.time_ns())
        except (IngestError, QueryError) as error:
            found[output.name] = {"hits": [], "total": 0, "error": str(error)}
        else:
            hits = [{"_id": hit.id, **hit.event} for hit in answer.hits]
            found[output.name] = {"hits": hits, "total": answer.total, "error": None}
    return found


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


# --- telling -----------------------------------------------------------------------------------------------


def lines(name: str, known: dict[str, Any]) -> list[str]:
    """All of it for a person, in the order in which it happened."""
    shown = [f"came in    {origin}" for origin in known["origins"]]
    shown += [
        f"taken      forward chunk, id prefix {prefix}: a resend would be recognised" for prefix in known["taken"]
    ]
    for event in known["held"]:
        shown += _held(event)
    for letter in known["letters"]:
        shown.append(
            f"died       {moment(letter['time'])}  dead letter {letter['number']} of {letter['event_id']} "
            f"at {letter['output'] or letter['stage'] or letter['pipeline']}: {' '.join(letter['reason'].split())}"
        )
    for output, answer in known["outputs"].items():
        shown += _stored(output, answer)
    if not is_known(known):
        shown.append(f"nothing is known of {name}")
    return shown + [f"note       {note}" for note in _notes(known)]


def _held(event: dict[str, Any]) -> Iterator[str]:
    yield (
        f"accepted   {moment(event['committed'])}  {event['id']} with tag {event['tag']} by pipeline "
        f"{event['pipeline']}, in chunk {event['chunk']} of the spool"
    )
    for each in event["owed"]:
        where = f" → {each['destination']}" if each["destination"] else ""
        tried = f", refused {each['attempt']} times" if each["attempt"] else ""
        why = f": {each['why']}" if each["why"] else ""
        yield f"waits      for output {each['output']}{where}{tried}{why}"
    for output in event["settled"]:
        yield f"settled    output {output} has answered for it"


def _stored(output: str, answer: dict[str, Any]) -> Iterator[str]:
    if answer["error"]:
        yield f"unknown    output {output} could not be asked: {answer['error']}"
    for hit in answer["hits"]:
        yield f"stored     output {output} has {hit['_id']}, @timestamp {hit.get('@timestamp') or '–'}"
    if answer["total"] > len(answer["hits"]):
        yield f"stored     output {output} has {answer['total'] - len(answer['hits']):,} more"


def _notes(known: dict[str, Any]) -> list[str]:
    notes: list[str] = [] if is_known(known) else list(dict.fromkeys(known["notes"]))
    if not known["whole"]:
        notes.append(f"the spool is large: {known['searched']:,} of its chunks were looked through")
    if not is_known(known):
        notes.append(
            "it may have been filtered or joined (`mcp-ingest status` counts those), delivered where nothing can be "
            "searched, or deleted there"
        )
    return notes
