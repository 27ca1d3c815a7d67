"""Searching what was delivered, the embedded store and Elasticsearch alike: the same text finds the same.

`lucene` reads the text into `checks`; `store` (with `compiled`, `patterns`) and `elasticsearch` answer them.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from mcp_ingest.config.model import ComponentConfig
from mcp_ingest.engine.search.checks import Between
from mcp_ingest.engine.search.found import MAX_LIMIT, Found, Hit
from mcp_ingest.engine.search.lucene import parse
from mcp_ingest.errors import QueryError

__all__ = ["MAX_LIMIT", "SEARCHABLE", "Found", "Hit", "Search", "search"]

#: The types of outputs that can be searched.
SEARCHABLE = ("store", "elasticsearch")


@dataclass(frozen=True, slots=True)
class Search:
    """What is asked: a text in Lucene syntax, the first and last moment (nanoseconds since 1970), how many hits."""

    text: str = ""
    start: int | None = None
    end: int | None = None
    limit: int = 100
    newest_first: bool = True


async def search(output: ComponentConfig, asked: Search, now: int) -> Found:
    """Ask the output; `now` (nanoseconds since 1970) is what `now-1h` in the text counts from.

    `QueryError` says what is wrong with the question, `OutputError` why the output cannot be asked.
    """
    if not 0 < asked.limit <= MAX_LIMIT:
        raise QueryError(f"the limit is a number from 1 to {MAX_LIMIT}")
    check = parse(asked.text, now)
    between = Between(asked.start, asked.end)
    if output.type == "store":
        from mcp_ingest.engine.search import store

        directory = Path(output.settings.directory)
        return await asyncio.to_thread(
            store.search, directory, check, between, asked.limit, newest_first=asked.newest_first
        )
    if output.type == "elasticsearch":
        from mcp_ingest.engine.search import elasticsearch

        return await elasticsearch.search(output.settings, check, between, asked.limit, newest_first=asked.newest_first)
    raise QueryError(f"the output {output.name} ({output.type}) cannot be searched, only {' and '.join(SEARCHABLE)}")
