"""Searching the embedded store from any process: its parts are opened read-only, the newest first.

A part whose times lie outside is not searched; when the limit is reached and no part left can have a newer hit, the
rest is only counted, and that for `COUNT_SECONDS` at the most.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
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
    bounds: Bounds
    place: Place
    part: Index
    searcher: Searcher


class _Candidate(NamedTuple):
    time: int
    order: int  # of equal times the part opened first goes first
    opened: _Opened
    address: DocAddress


def search(directory: Path, check: Check, between: Between, limit: int, *, newest_first: bool = True) -> Found:
    """The first `limit` hits of the store in this folder, sorted by time."""
    found = Found()
    best: list[_Candidate] = []
    whole = All((check, between)) if between != Between(None, None) else check
    deadline = None
    for opened in _in_order(_open(directory, found), between, newest_first=newest_first):
        full = len(best) >= limit and not _better(opened.bounds, best[-1].time if best else 0, newest_first)
        if full:
            deadline = deadline or time.monotonic() + COUNT_SECONDS
            if time.monotonic() > deadline:
                found.exact = False
                break
        query = compiled(whole, opened.part)
        result = opened.searcher.search(
            query, max(1, 0 if full else limit), order_by_field="time", order=Order.Desc if newest_first else Order.Asc
        )
        found.total += result.count  # type: ignore[attr-defined]  # the stubs have forgotten it
        if not full:
            best += [_Candidate(hit, len(best), opened, address) for hit, address in result.hits]
            best.sort(key=lambda candidate: -candidate.time if newest_first else candidate.time)
            del best[limit:]
    found.hits = [_hit(candidate) for candidate in best]
    return found


def _open(directory: Path, found: Found) -> Iterator[_Opened]:
    for place in parts.places(directory):
        try:
            index = Index.open(str(place.path))
            index.config_reader("manual")
            index.reload()
            searcher = index.searcher()
        except (ValueError, OSError):
            if (place.path / "meta.json").exists():  # else it was just dropped, or has nothing in it yet
                found.notes.append(f"{place.path} cannot be opened and is left out")
            continue
        bounds = parts.bounds(place, searcher)
        if bounds is not None:
            yield _Opened(bounds, place, index, searcher)


def _in_order(found: Iterator[_Opened], between: Between, *, newest_first: bool) -> list[_Opened]:
    inside = [
        opened
        for opened in found
        if (between.first is None or opened.bounds.newest >= between.first)
        and (between.last is None or opened.bounds.oldest <= between.last)
    ]
    if newest_first:
        return sorted(inside, key=lambda opened: -opened.bounds.newest)
    return sorted(inside, key=lambda opened: opened.bounds.oldest)


def _better(bounds: Bounds, worst: int, newest_first: bool) -> bool:
    return bounds.newest > worst if newest_first else bounds.oldest < worst


def _hit(candidate: _Candidate) -> Hit:
    stored = candidate.opened.searcher.doc(candidate.address)
    event = orjson.loads(bytes(stored.get_first("line") or b"{}"))
    return Hit(str(stored.get_first("id")), event)
