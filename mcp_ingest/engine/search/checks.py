"""What a search asks of an event, as values: what the syntax is read into, and what each backend is built from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Sign(Enum):
    """The wildcards."""

    TEXT = "*"
    CHARACTER = "?"


#: A pattern: literal text and wildcards.
Pattern = tuple[str | Sign, ...]
ANY_TEXT, ANY_CHARACTER = Sign.TEXT, Sign.CHARACTER


@dataclass(frozen=True, slots=True)
class Everything:
    """Any event."""


@dataclass(frozen=True, slots=True)
class Term:
    """The field has this value; in `message`: these words, one after the other."""

    field: str
    text: str


@dataclass(frozen=True, slots=True)
class Wildcard:
    """The field has a value (`message`: a word) of this pattern."""

    field: str
    pattern: Pattern


@dataclass(frozen=True, slots=True)
class Exists:
    """The field has any value."""

    field: str


@dataclass(frozen=True, slots=True)
class Range:
    """The field has a value between two others; None: no bound on that side."""

    field: str
    low: str | None
    high: str | None
    with_low: bool = True
    with_high: bool = True


@dataclass(frozen=True, slots=True)
class Between:
    """The event's time lies between two moments, both included, nanoseconds since 1970; None: no bound."""

    first: int | None
    last: int | None


@dataclass(frozen=True, slots=True)
class All:
    """Every one of these holds."""

    parts: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class Some:
    """At least one of these holds."""

    parts: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class No:
    """This does not hold."""

    part: Check


Check = Everything | Term | Wildcard | Exists | Range | Between | All | Some | No
