"""What the real Elasticsearch refuses: of an event, of an index, of a whole request."""

from __future__ import annotations

import time
from typing import Any

import pytest

from mcp_ingest.component import Duration
from mcp_ingest.outputs.elasticsearch.access import Access, Answer
from mcp_ingest.outputs.elasticsearch.connection import Connection
from mcp_ingest.outputs.elasticsearch.verdicts import verdicts
from mcp_ingest.verdict import DELIVERED, AllDelivered, Each, Malformed, Park, Refused
from tests.integration.servers import Elasticsearch
from tests.integration.writing import Make, each, eventually, request

pytestmark = pytest.mark.timeout(180)


@pytest.mark.parametrize(
    ("mapping", "record", "field", "kind"),
    [
        ({"n": {"type": "long"}}, {"n": "x"}, "n", "document_parsing_exception"),
        ({"day": {"type": "date"}}, {"day": "not a day"}, "day", "document_parsing_exception"),
        ({"word": {"type": "keyword"}}, {"word": "w" * 40_000}, "word", "document_parsing_exception"),
        ({"part": {"type": "object"}}, {"part": "x"}, "part", "document_parsing_exception"),
    ],
    ids=["type", "date", "keyword over 32,766 bytes", "object"],
)
async def test_what_a_mapping_refuses_names_the_field(
    elasticsearch: Elasticsearch, output: Make, name: str, mapping: Any, record: Any, field: str, kind: str
) -> None:
    """Each way in which a document does not fit is a refusal with the field that the repair may move."""
    elasticsearch.request("PUT", f"/{name}", {"mappings": {"properties": mapping}})
    found, neighbour = each(await output(elasticsearch).write(request(name, [record, {}])))
    assert isinstance(found, Refused)
    assert (found.field, found.kind) == (field, kind)
    assert neighbour is DELIVERED


async def test_what_an_index_has_no_room_for_is_refused(elasticsearch: Elasticsearch, output: Make, name: str) -> None:
    """A strict mapping names the new field; beyond the limit of fields no single one is guilty."""
    elasticsearch.request("PUT", f"/{name}-strict", {"mappings": {"dynamic": "strict"}})
    elasticsearch.request("PUT", f"/{name}-few", {"settings": {"index.mapping.total_fields.limit": 3}})
    both = request(name, [{"new": 1}, {f"f{n}": n for n in range(9)}])
    both.parts[0].destinations = [f"{name}-strict", f"{name}-few"]
    strict, few = each(await output(elasticsearch).write(both))
    assert isinstance(strict, Refused)
    assert (strict.field, strict.kind) == ("new", "strict_dynamic_mapping_exception")
    assert isinstance(few, Refused)
    assert few.field is None
    assert "Limit of total fields" in few.why


async def test_a_bad_name_of_an_index_is_refused(elasticsearch: Elasticsearch, output: Make, name: str) -> None:
    """Names are made safe before; if one is not, that is our mistake and not a reason to wait."""
    both = request(name, [{}, {}])
    both.parts[0].destinations = [f"{name}-#UPPER", name]
    found, neighbour = each(await output(elasticsearch).write(both))
    assert isinstance(found, Refused)
    assert found.kind == "invalid_index_name_exception"
    assert neighbour is DELIVERED


async def test_a_cluster_full_of_shards_parks_the_new_index(
    elasticsearch: Elasticsearch, output: Make, name: str
) -> None:
    """No room for a further shard is a matter of the set-up: it waits, the indices that are there go on."""
    elasticsearch.request("PUT", f"/{name}-old")
    setting = "cluster.max_shards_per_node"
    elasticsearch.request("PUT", "/_cluster/settings", {"persistent": {setting: 1}})
    both = request(name, [{}, {}])
    both.parts[0].destinations = [f"{name}-new", f"{name}-old"]
    try:
        found, neighbour = each(await output(elasticsearch).write(both))
    finally:
        elasticsearch.request("PUT", "/_cluster/settings", {"persistent": {setting: None}})
    assert isinstance(found, Park)
    assert "maximum normal shards open" in found.why
    assert neighbour is DELIVERED
    assert await output(elasticsearch).write(request(f"{name}-new", [{}])) == AllDelivered()


async def test_an_index_without_a_shard_parks_alone(elasticsearch: Elasticsearch, output: Make, name: str) -> None:
    """The server says so within a third of the request's time, for that index: its neighbours are stored meanwhile."""
    settings = {"index.routing.allocation.require.box": "none", "index.number_of_replicas": 0}
    elasticsearch.request("PUT", f"/{name}-homeless?wait_for_active_shards=0", {"settings": settings})
    writer = output(elasticsearch, request_seconds=Duration(6))
    both = request(name, [{}, {}])
    both.parts[0].destinations = [f"{name}-homeless", name]
    began = time.monotonic()
    found, neighbour = each(await writer.write(both))
    assert time.monotonic() - began < 5
    assert isinstance(found, Park)
    assert found.why.startswith("503 unavailable_shards_exception")
    assert neighbour is DELIVERED
    elasticsearch.request("PUT", f"/{name}-homeless/_settings", {"index.routing.allocation.require.box": None})
    assert await eventually(writer, request(f"{name}-homeless", [{}]), Each) == AllDelivered()


async def test_a_body_without_its_last_line_end_is_malformed(elasticsearch: Elasticsearch) -> None:
    """What the server says to it is a reason to look for the guilty event, not to wait."""
    connection = Connection(Access((elasticsearch.url,)), 10.0)
    body = b'{"create":{"_index":"it-never"}}\n{}'
    answer = await connection.request("POST", "/_bulk", body, {"content-type": "application/x-ndjson"})
    await connection.close()
    assert isinstance(answer, Answer)
    assert isinstance(verdicts(answer.status, answer.body, 1), Malformed)
