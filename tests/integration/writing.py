"""An output's requests and verdicts, as the tests with a real server make and read them."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any, Protocol

import pytest

from mcp_ingest.outputs.elasticsearch import Elasticsearch as ElasticsearchOutput
from mcp_ingest.verdict import Each, Part, Request, Retry, Verdict, Verdicts
from tests.integration.servers import Elasticsearch


class Make(Protocol):
    """Makes an output for a server."""

    def __call__(self, server: Elasticsearch, **settings: Any) -> ElasticsearchOutput: ...


def request(index: str, records: list[Any], ids: list[str] | None = None) -> Request:
    lines = [record if isinstance(record, bytes) else json.dumps(record).encode() for record in records]
    ids = ids if ids is not None else [uuid.uuid4().hex for _ in lines]
    count = len(lines)
    return Request([Part("chunk-1", ids, [0] * count, ["t"] * count, [index] * count, lines)])


def each(found: Verdicts) -> list[Verdict]:
    assert isinstance(found, Each), found
    return found.verdicts


async def eventually(writer: ElasticsearchOutput, sent: Request, still: type) -> Verdicts:
    """The first answer that is no longer `still` and leaves nothing to retry, as delivery gets it by trying again."""
    for _ in range(100):
        found = await writer.write(sent)
        busy = isinstance(found, Each) and any(isinstance(verdict, Retry) for verdict in found.verdicts)
        if not busy and not isinstance(found, still):
            return found
        await asyncio.sleep(0.2)
    pytest.fail(f"still {found}")
