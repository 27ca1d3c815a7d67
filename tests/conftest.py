"""What every test may ask for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.servers import Elasticsearch


@pytest.fixture(scope="session")
def elasticsearch() -> Iterator[Elasticsearch]:
    """One real Elasticsearch for the whole run, without security: give each test an index of its own."""
    server = Elasticsearch()
    try:
        yield server.start()
    finally:
        server.close()
