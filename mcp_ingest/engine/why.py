"""What became of an event that is still known: by its `_id`, its `trace_id`, or the id of its forward chunk.

The spool is looked through a few chunks at a time, so that commits go on between, and for some seconds at the most.
Of what was delivered the outputs know; who asks searches them.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import dataclasses
import re
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import orjson

from mcp_ingest.component import Input
from mcp_ingest.event import PREFIX_BYTES, id_prefix
from mcp_ingest.spool.about import HeldEvent, Wanted, held_events, letters_about, newest_letter
from mcp_ingest.spool.model import DeadLetter
from mcp_ingest.spool.reader import Reader

#: How long the spool is looked through, and how much of it at once: four chunks take some 5 ms.
SECONDS = 10.0
_CHUNKS, _LETTERS = 4, 500
#: Events and letters that are told of at the most.
MOST = 100

_ID = re.compile(r"[A-Za-z0-9_-]{28}").fullmatch
Value = TypeVar("Value")


class Source(Protocol):
    """What a spool can be asked, of a daemon that runs or of one that does not."""

    def look(self, question: Callable[[Reader], Value]) -> Awaitable[Value]:
        """The answer to a question to the database."""
        ...

    def seen(self, digests: Collection[bytes]) -> set[bytes]:
        """Those of these chunk digests that were committed."""
        ...


@dataclass(slots=True)
class Known:
    """All that was found. `origins` say where it came from; `taken` are prefixes of forward chunks that were committed.

    `prefixes` are how ids of the chunk of this id begin. `searched` chunks were looked through, `whole` if all were.
    """

    origins: list[str] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    held: list[HeldEvent] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    searched: int = 0
    whole: bool = True
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The same as values of JSON."""
        made = dataclasses.asdict(self)
        for letter in made["letters"]:
            letter["record"] = orjson.loads(letter["record"])
        return made


async def why(
    text: str, source: Source, inputs: Mapping[str, Input], tag: str | None = None, peer: str | None = None
) -> Known:
    """What is known of the event or events of this id; `tag` and `peer` are those of a chunk whose id is not random."""
    known = Known()
    ids, prefixes = set[str](), set[str]()
    if parts := id_parts(text):
        ids.add(text)
        _origins(known, inputs, *parts)
        known.taken += [id_prefix(digest[:PREFIX_BYTES]) for digest in source.seen([_digest(parts[0])])]
    for each in inputs.values():
        try:
            prefix = each.prefix_of(text, tag, peer)
        except ValueError as error:
            if not ids:
                known.notes.append(str(error))
            continue
        if prefix is not None:
            prefixes.add(id_prefix(prefix))
            known.taken += [id_prefix(prefix) for _ in source.seen([_digest(prefix)])]
    known.prefixes = sorted(prefixes)
    await _look_through(known, source, Wanted(frozenset(ids), frozenset(prefixes), text))
    return known


def id_parts(text: str) -> tuple[bytes, int] | None:
    """Prefix and position of an `_id`; None if it is none of ours."""
    if not _ID(text):
        return None
    try:
        raw = base64.urlsafe_b64decode(text)
    except binascii.Error:
        return None
    return raw[:PREFIX_BYTES], int.from_bytes(raw[PREFIX_BYTES:], "big")


def _digest(prefix: bytes) -> bytes:
    """How the spool remembers a forward chunk: `inputs/forward/batches.py` makes both of one hash."""
    return prefix + b"\0"


def _origins(known: Known, inputs: Mapping[str, Input], prefix: bytes, position: int) -> None:
    for name, each in inputs.items():
        if place := each.place_of(prefix, position):
            known.origins.append(f"input {name}: {place}")


async def _look_through(known: Known, source: Source, wanted: Wanted) -> None:
    deadline = time.monotonic() + SECONDS
    below = await source.look(newest_letter) + 1
    while below > 0 and len(known.letters) < MOST and time.monotonic() < deadline:
        known.letters += await source.look(_letters(wanted, below))
        below -= _LETTERS
        await asyncio.sleep(0)
    after: int | None = -1
    while after is not None and len(known.held) < MOST and time.monotonic() < deadline:
        look = await source.look(_events(wanted, after))
        known.held += look.events
        known.searched += look.chunks
        after = look.last
        await asyncio.sleep(0)
    known.whole = after is None and below <= 0
    del known.held[MOST:], known.letters[MOST:]


def _letters(wanted: Wanted, below: int) -> Callable[[Reader], list[DeadLetter]]:
    return lambda reader: letters_about(reader, wanted, below, _LETTERS)


def _events(wanted: Wanted, after: int) -> Callable[[Reader], Any]:
    return lambda reader: held_events(reader, wanted, after, _CHUNKS)
