"""What an output is asked (`Request`) and what it answers (`Verdicts`): decisions as values, no I/O.

For each event `DELIVERED`, `DUPLICATE`, `REDIRECTED`, `Retry`, `Park` or `Refused`; or for a whole request
`TooLarge`, `Malformed`, `Unknown`, `ParkAll`. `engine/delivery.py` acts on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mcp_ingest.codecs.segments import Segment


@dataclass(slots=True)
class Part:
    """Events of one chunk, as columns; `chunk` names it for ever (spool uuid in hex, a dash, its number).

    `entries` are ids and lines as they are stored (`codecs/bulk.py`), where the part is all of the chunk; the columns
    are made of them when they are looked at. None: there are only the columns.
    """

    chunk: str
    ids: Sequence[str]
    times: Sequence[int]
    tags: Sequence[str]
    destinations: Sequence[str]
    lines: Sequence[bytes]
    entries: Segment | None = None


@dataclass(slots=True)
class Request:
    """What is to be sent at once: parts in order; verdicts count through all their events."""

    parts: list[Part]

    @property
    def count(self) -> int:
        """Events in all parts."""
        return sum(len(part.ids) for part in self.parts)

    @property
    def size(self) -> int:
        """Bytes of all lines, without line ends."""
        return sum(sum(map(len, part.lines)) for part in self.parts)


# --- for one event -----------------------------------------------------------------------------------------


class Delivered(NamedTuple):
    """Stored."""


class Duplicate(NamedTuple):
    """It was there already, with this id."""


class Redirected(NamedTuple):
    """Stored elsewhere by the peer (Elasticsearch's failure store)."""


class Retry(NamedTuple):
    """Not now: try this event again, no sooner than `after` seconds where the peer said so."""

    why: str
    after: float | None = None
    overloaded: bool = False  # the peer is busy: fewer at once
    smaller: bool = False  # it has no memory for so much at once


class Park(NamedTuple):
    """This destination takes nothing for now (blocked, closed, forbidden, missing); others do."""

    why: str


class Refused(NamedTuple):
    """Never as it is: a dead letter, after one repair if `field` names what the peer stumbled over."""

    why: str
    field: str | None = None
    kind: str = "refused"  # the class of the reason, bounded: a label of the ledger


Verdict = Delivered | Duplicate | Redirected | Retry | Park | Refused
DELIVERED, DUPLICATE, REDIRECTED = Delivered(), Duplicate(), Redirected()


# --- for a whole request -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AllDelivered:
    """Every event was stored: the common case, without a list."""


@dataclass(frozen=True, slots=True)
class Each:
    """One verdict for each event, in order."""

    verdicts: list[Verdict]


@dataclass(frozen=True, slots=True)
class TooLarge:
    """The peer refuses the size: halve; a single event is a dead letter."""

    why: str


@dataclass(frozen=True, slots=True)
class Malformed:
    """The peer refuses the whole request for what is in it: bisect until the guilty event is alone."""

    why: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody knows what became of it (timeout, cut answer, 5xx): the same again with the same ids."""

    why: str
    after: float | None = None
    overloaded: bool = False  # the peer is busy (429, 503): fewer at once
    smaller: bool = False  # it has no room for so much at once


@dataclass(frozen=True, slots=True)
class ParkAll:
    """The output as a whole takes nothing (credentials, certificate, template): try slowly, say why."""

    why: str


Verdicts = AllDelivered | Each | TooLarge | Malformed | Unknown | ParkAll
