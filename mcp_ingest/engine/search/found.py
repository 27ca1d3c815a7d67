"""What a search finds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

#: Hits of one search at the most: what Elasticsearch gives without scrolling.
MAX_LIMIT = 10_000


class Hit(NamedTuple):
    """An event with its id."""

    id: str
    event: dict[str, Any]


@dataclass(slots=True)
class Found:
    """The hits in order of time; `total` is how many there are, or, where it is not `exact`, at least are.

    `notes` are sentences for the user about what could not be searched.
    """

    hits: list[Hit] = field(default_factory=list)
    total: int = 0
    exact: bool = True
    notes: list[str] = field(default_factory=list)
