"""What every test with a real server may ask for."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from mcp_ingest.context import Context
from mcp_ingest.outputs.elasticsearch import Elasticsearch as ElasticsearchOutput
from mcp_ingest.outputs.elasticsearch import ElasticsearchConfig
from tests.integration import servers
from tests.integration.servers import Elasticsearch
from tests.integration.writing import Make

#: What one server can do little of, and that every index must be made by hand.
NARROW = [
    "action.auto_create_index: false",
    "http.max_content_length: 64kb",
    "indexing_pressure.memory.limit: 60kb",
    "thread_pool.write.size: 1",
    "thread_pool.write.queue_size: 1",
    "node.processors: 1",
]


@pytest.fixture(scope="session")
def narrow() -> Iterator[Elasticsearch]:
    """One server with narrow limits for the whole run, that can be overloaded, paused and killed."""
    server = Elasticsearch(NARROW)
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Elasticsearch, Path]]:
    """One server with TLS and users for the whole run, and the folder of its authority: see `servers.secured`."""
    directory = tmp_path_factory.mktemp("authority")
    server = servers.secured(directory)
    try:
        yield server.start(), directory
    finally:
        server.close()


@pytest.fixture
async def output() -> AsyncIterator[Make]:
    """Make outputs and close them behind the test."""
    made: list[ElasticsearchOutput] = []

    def make(server: Elasticsearch, **settings: Any) -> ElasticsearchOutput:
        config = ElasticsearchConfig(hosts=[server.url], **settings)
        assert config.check() == []
        made.append(ElasticsearchOutput(config, Context()))
        return made[-1]

    yield make
    for each in made:
        await each.close()


@pytest.fixture
def name() -> str:
    """A name that no other test uses."""
    return f"it-{uuid.uuid4().hex[:12]}"
