"""Searching the embedded store from any process: its parts are opened read-only, the newest first.

A part whose times lie outside is not searched; when the limit is reached and no part left can have a newer hit, the
rest is only counted, and that for `COUNT_SECONDS` at the most.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import orjson
from tantivy import DocAddress, Index, Order, Searcher

from mcp_ingest.engine.search.checks import All, Between, Check
from mcp_ingest.engine.search.compiled import compiled
from mcp_ingest.engine.search.found import Found, Hit
from mcp_ingest.outputs.store import parts
from mcp_ingest.outputs.store.parts import Bounds, Place

COUNT_SECONDS = 0.05


class _Opened(NamedTuple):
    part: Index
    searcher: Searcher


class _Known(NamedTuple):
    """A part whose times are known: a finished one has them in its summary and is opened only when it is searched."""

    bounds: Bounds
    place: Place
    opened: _Opened | None


class _Candidate(NamedTuple):
    time: int
    searcher: Searcher
    address: DocAddress


def search(directory: Path, check: Check, between: Between, limit: int, *, newest_first: bool = True) -> Found:
    """The first `limit` hits of the store in this folder, sorted by time."""
    found = Found()
    best: list[_Candidate] = []
    whole = All((check, between)) if between != Between(None, None) else check
    order = Order.Desc if newest_first else Order.Asc
    deadline = None
    for known in _in_order(directory, between, found, newest_first=newest_first):
        full = len(best) >= limit and not _better(known.bounds, best[-1].time, newest_first)
        if full:
            deadline = deadline or time.monotonic() + COUNT_SECONDS
            if time.monotonic() > deadline:
                found.exact = False
                break
        opened = known.opened or _open(known.place, found)
        if opened is None:
            continue
        query = compiled(whole, opened.part)
        result = opened.searcher.search(query, 1 if full else limit, order_by_field="time", order=order)
        found.total += result.count  # type: ignore[attr-defined]  # the stubs have forgotten it
        if not full:
            best += [_Candidate(hit, opened.searcher, address) for hit, address in result.hits]
            best.sort(key=lambda candidate: -candidate.time if newest_first else candidate.time)
            del best[limit:]
    found.hits = [_hit(candidate) for candidate in best]
    return found


def _in_order(directory: Path, between: Between, found: Found, *, newest_first: bool) -> list[_Known]:
    inside = [
        known
        for place in parts.all_places(directory)
        if (known := _know(place, found))
        and (between.first is None or known.bounds.newest >= between.first)
        and (between.last is None or known.bounds.oldest <= between.last)
    ]
    if newest_first:
        return sorted(inside, key=lambda known: -known.bounds.newest)
    return sorted(inside, key=lambda known: known.bounds.oldest)


def _know(place: Place, found: Found) -> _Known | None:
    if written := parts.summary(place):
        return _Known(Bounds(written.oldest, written.newest), place, None)
    opened = _open(place, found)
    bounds = parts.bounds(place, opened.searcher) if opened else None
    return _Known(bounds, place, opened) if bounds else None


def _open(place: Place, found: Found) -> _Opened | None:
    try:
        index = Index.open(str(place.path))
        index.config_reader("manual")
        index.reload()
        return _Opened(index, index.searcher())
    except (ValueError, OSError):
        if (place.path / "meta.json").exists():  # else it was just dropped, or has nothing in it yet
            found.notes.append(f"{place.path} cannot be opened and is left out")
        return None


def _better(bounds: Bounds, worst: int, newest_first: bool) -> bool:
    return bounds.newest > worst if newest_first else bounds.oldest < worst


def _hit(candidate: _Candidate) -> Hit:
    stored = candidate.searcher.doc(candidate.address)
    event = orjson.loads(bytes(stored.get_first("line") or b"{}"))
    return Hit(str(stored.get_first("id")), event)
