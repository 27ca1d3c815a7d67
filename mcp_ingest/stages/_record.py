"""What stages do alike with a record: keep something aside, warn, judge it by its keys once and not for each event."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, count
from typing import Any, Generic, TypeVar

from mcp_ingest.event import Record

Verdict = TypeVar("Verdict")

_MOST_SHAPES = 1024
_LONGEST_SHAPE = 4096


class Shapes(dict[tuple[str, ...], Verdict], Generic[Verdict]):
    """What `judge` says of records with these keys, in this order: services log few shapes, many times each.

    Looked up as `shapes[tuple(record)]`. Holds 4 MiB of keys at the most, whatever is sent.
    """

    def __init__(self, judge: Callable[[tuple[str, ...]], Verdict]) -> None:
        super().__init__()
        self._judge = judge

    def __missing__(self, shape: tuple[str, ...]) -> Verdict:
        verdict = self._judge(shape)
        if sum(map(len, shape)) <= _LONGEST_SHAPE:
            if len(self) >= _MOST_SHAPES:
                self.clear()
            self[shape] = verdict
        return verdict


def metadata_of(record: Record) -> dict[str, Any]:
    """The record's `metadata`, made if it is missing; one that is no map becomes `{"value": it}`."""
    metadata = record.get("metadata")
    if not isinstance(metadata, dict):
        metadata = record["metadata"] = {} if metadata is None else {"value": metadata}
    return metadata


def set_aside(metadata: dict[str, Any], name: str, value: Any) -> None:
    """Keep `value` under this name, or under a free one of `name_2`, `name_3`, …; once if it is there already."""
    # behind the tenth the map's own length is the next guess: a thousand of one name must not cost a million looks
    for number in chain(range(1, 10), count(len(metadata) + 1)):
        free = f"{name}_{number}" if number > 1 else name
        if free not in metadata:
            metadata[free] = value
            return
        if metadata[free] == value:
            return


def warn(record: Record, text: str) -> None:
    """Note in `pipeline_warnings`, once, what was found wrong with the event."""
    warnings = record.get("pipeline_warnings")
    if not isinstance(warnings, list):
        warnings = [] if warnings is None else [warnings]
    if text not in warnings:
        record["pipeline_warnings"] = [*warnings, text]
