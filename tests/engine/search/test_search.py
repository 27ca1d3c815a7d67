"""The one door to searching."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_ingest.component import find
from mcp_ingest.config.model import ComponentConfig, Place
from mcp_ingest.engine.search import MAX_LIMIT, Search, search
from mcp_ingest.errors import QueryError
from mcp_ingest.outputs.store.shelf import Shelf
from tests.outputs.store.test_store import NOON, Clock, chunk


def output(kind: str, **settings: str) -> ComponentConfig:
    """An output's configuration."""
    config = find("output", kind).Config(**settings)
    return ComponentConfig("output", "mine", kind, config, Place("test", 1, 1))


async def test_the_store_is_searched(tmp_path: Path) -> None:
    """A text finds its events in the output's folder."""
    writer = Shelf(tmp_path, Clock(), 15_000_000, 10**18, 2**40)
    writer.add(chunk(1, ["one", "two"]))
    writer.close()
    found = await search(output("store", directory=str(tmp_path)), Search("two"), NOON)
    assert [hit.event["message"] for hit in found.hits] == ["two"]


@pytest.mark.parametrize("limit", [0, -1, MAX_LIMIT + 1])
async def test_limits(limit: int) -> None:
    """A limit that makes no sense is refused."""
    with pytest.raises(QueryError, match="limit"):
        await search(output("store"), Search("", limit=limit), NOON)


async def test_other_outputs() -> None:
    """An output that cannot be searched says which can."""
    with pytest.raises(QueryError, match="store and elasticsearch"):
        await search(output("stdout"), Search(), NOON)
