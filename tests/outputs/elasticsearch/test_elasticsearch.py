"""The component against a peer of chosen answers; against the real server: tests/integration."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import AsyncIterator
from typing import Any, Protocol

import msgspec
import pytest

from mcp_ingest.codecs.bulk import bulk_entries
from mcp_ingest.codecs.segments import segment
from mcp_ingest.context import Context
from mcp_ingest.errors import OutputError
from mcp_ingest.outputs.elasticsearch import Elasticsearch, ElasticsearchConfig
from mcp_ingest.verdict import AllDelivered, Each, Part, Request, Retry, Unknown
from tests.outputs.elasticsearch.faults import Peer, http, peer


class Make(Protocol):
    def __call__(self, server: Peer, **settings: Any) -> Elasticsearch: ...


@pytest.fixture
async def output() -> AsyncIterator[Make]:
    made: list[Elasticsearch] = []

    def make(server: Peer, **settings: Any) -> Elasticsearch:
        made.append(Elasticsearch(ElasticsearchConfig(hosts=[server.url], **settings), Context()))
        return made[-1]

    yield make
    for each in made:
        await each.close()


def request(*sizes: int) -> Request:
    parts = []
    for number, size in enumerate(sizes):
        ids = [f"{number}-{i}" for i in range(size)]
        lines = [b'{"n":%d}' % i for i in range(size)]
        parts.append(Part(f"c-{number}", ids, [0] * size, ["t"] * size, ["index"] * size, lines))
    return Request(parts)


def created(count: int) -> bytes:
    items = [{"create": {"_index": "index", "status": 201}}] * count
    return json.dumps({"errors": False, "items": items}, separators=(",", ":")).encode()


async def test_parts_become_one_body_in_order(output: Make) -> None:
    """Events of several chunks are one request, and the verdicts count through all of them."""
    async with peer(lambda head: http(200, created(3))) as server:
        assert await output(server).write(request(2, 1)) == AllDelivered()
    head, body = server.asked[0]
    assert head.startswith("POST /_bulk?filter_path=took,errors,items.*.status")
    assert [json.loads(line)["create"]["_id"] for line in body.splitlines()[::2]] == ["0-0", "0-1", "1-0"]


async def test_large_bodies_are_compressed_unless_told_otherwise(output: Make) -> None:
    """gzip from 1,400 bytes on; `compression: false` sends all as it is."""
    async with peer(lambda head: http(200, created(50))) as server:
        await output(server).write(request(50))
        await output(server, compression=False).write(request(50))
        await output(server).write(request(1))
    heads = [head for head, _ in server.asked]
    assert ["content-encoding: gzip" in head.lower() for head in heads] == [True, False, False]
    assert gzip.decompress(server.asked[0][1]) == server.asked[1][1]


async def test_an_ingest_pipeline_is_asked_for(output: Make) -> None:
    """`pipeline` stands in the request, safely quoted."""
    async with peer(lambda head: http(200, created(1))) as server:
        await output(server, pipeline="geo ip&x").write(request(1))
    assert "&pipeline=geo%20ip%26x HTTP" in server.asked[0][0]


async def test_an_answer_is_judged_item_by_item(output: Make) -> None:
    """The server's answer becomes the verdicts of the table."""
    answer = json.loads(created(2))
    answer["errors"] = True
    answer["items"][1]["create"] = {"status": 429, "error": {"type": "es_rejected_execution_exception", "reason": "x"}}
    async with peer(lambda head: http(200, json.dumps(answer).encode())) as server:
        found = await output(server).write(request(2))
    assert isinstance(found, Each)
    assert isinstance(found.verdicts[1], Retry)


async def test_a_cut_answer_is_unknown(output: Make) -> None:
    """Half an answer says nothing of any event."""
    async with peer(lambda head: http(200, created(2)[:40], length=400)) as server:
        assert isinstance(await output(server).write(request(2)), Unknown)


async def test_the_deadline_of_delivery_lies_behind_the_requests_own(output: Make) -> None:
    """The output's own sentence about the timeout comes first."""
    async with peer(lambda head: None) as server:
        slow = output(server, request_seconds=0.2)
        assert slow.deadline > 0.2
        found = await slow.write(request(1))
    assert isinstance(found, Unknown)
    assert "did not answer within 0.2 s" in found.why


async def test_a_template_that_is_there_stays(output: Make) -> None:
    """Nothing is installed over what the operator has."""
    async with peer(lambda head: http(200, b"{}")) as server:
        await output(server).start()
    assert [head.split(" HTTP")[0] for head, _ in server.asked] == ["GET /_index_template/mcp-logs"]


async def test_no_template_is_asked_for_if_told_so(output: Make) -> None:
    """`template: false` sends nothing at start."""
    async with peer(lambda head: http(200)) as server:
        await output(server, template=False).start()
    assert server.asked == []


async def test_a_missing_template_is_fitted_to_the_server(output: Make) -> None:
    """Refused parts are taken out until it is installed, under the name that was given."""

    def old_server(head: str) -> bytes:
        if head.startswith("GET"):
            return http(404, b"{}")
        return http(200, b"{}") if len(server.asked) > 3 else http(400, refusals.pop())

    refusals = [b'{"error":{"type":"x","reason":"No handler for type [flattened]"}}',
                b'{"error":{"type":"x","reason":"unsupported parameters:  [subobjects : false]"}}']  # fmt: skip
    async with peer(old_server) as server:
        await output(server, template_name="ours", replicas=0).start()
    assert [head.split(" HTTP")[0] for head, _ in server.asked][1:] == ["PUT /_index_template/ours"] * 3
    installed = json.loads(server.asked[-1][1])
    assert installed["index_patterns"] == ["mcp-logs-*"]
    assert installed["template"]["settings"]["index.number_of_replicas"] == 0
    assert "subobjects" not in installed["template"]["mappings"]
    assert installed["template"]["mappings"]["properties"]["metadata"] == {"type": "flat_object"}


@pytest.mark.parametrize("status", [400, 403])
async def test_a_template_that_may_not_be_installed_is_a_warning(
    output: Make, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A role without the right, or a template of the operator's in the way: one line, and events go on."""
    refusal = b'{"error":{"type":"security_exception","reason":"not for you"}}'
    async with peer(lambda head: http(404 if head.startswith("GET") else status, refusal)) as server:
        await output(server).start()
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "index template for mcp-logs-* is not installed" in record.getMessage()
    assert "security_exception: not for you" in record.getMessage()


@pytest.mark.parametrize("status", [401, 429, 500, 503])
async def test_a_server_that_is_not_ready_is_an_output_error(output: Make, status: int) -> None:
    """Delivery tries again; the sentence says why."""
    async with peer(lambda head: http(status, b'{"error":{"type":"x","reason":"y"}}')) as server:
        with pytest.raises(OutputError, match=f"{status} x: y"):
            await output(server).start()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"hosts": ["localhost:9200"]}, "hosts: "),
        ({"hosts": ["http://a:x"]}, "hosts: "),
        ({"hosts": ["http://bob:secret@:9200"]}, "hosts: ':9200'"),
        ({"username": "a", "password": "b", "api_key": "c"}, "api_key: "),
        ({"password": "b"}, "password: "),
        ({"client_key": "k"}, "client_key: "),
        ({"index": "a", "data_stream": "b"}, "data_stream: "),
        ({"index": "Bad"}, "index: 'Bad'"),
        ({"data_stream": "logs-{x"}, "data_stream: "),
        ({"request_seconds": 0}, "request_seconds: "),
    ],
)
def test_a_mistake_in_the_settings_is_said(settings: dict[str, Any], sentence: str) -> None:
    """Each sentence begins with the setting's name, and shows no password."""
    (problem,) = ElasticsearchConfig(**settings).check()
    assert problem.startswith(sentence)
    assert "secret" not in problem


def test_the_examples_are_without_mistake() -> None:
    """What the docs show passes the check."""
    for example in Elasticsearch.EXAMPLES:
        assert msgspec.convert(example.config, ElasticsearchConfig).check() == []


def stored(number: int, size: int, index: str = "index") -> Part:
    """A part that is all of a chunk, as delivery makes it."""
    ids = [f"{number}-{place}".ljust(28, "-") for place in range(size)]
    lines = [b'{"n":%d,"text":"%s"}' % (place, b"x" * 50) for place in range(size)]
    entries = segment(bulk_entries(ids, lines))
    return Part(f"c-{number}", ids, [0] * size, ["t"] * size, [index] * size, lines, entries)


async def test_what_is_stored_goes_out_as_it_is(output: Make) -> None:
    """Whole chunks for one index: their segments, long and short ones, as one gzip body to that index's path."""
    parts = [stored(0, 100, "logs-ü"), stored(1, 1, "logs-ü"), stored(2, 2, "logs-ü"), stored(3, 60, "logs-ü")]
    async with peer(lambda head: http(200, created(163))) as server:
        assert await output(server).write(Request(parts)) == AllDelivered()
    head, body = server.asked[0]
    assert head.startswith("POST /logs-%C3%BC/_bulk?filter_path=")
    assert gzip.decompress(body) == b"".join(bulk_entries(part.ids, part.lines) for part in parts)


async def test_what_has_several_destinations_is_built_anew(output: Make) -> None:
    """Chunks for two indices, a chunk of which only a part is sent, and no compression: each action names its index."""
    half = stored(2, 40)
    half.entries = None
    requests = [
        ({}, [stored(0, 40), stored(1, 40, "other")]),
        ({}, [stored(0, 40), half]),
        ({"compression": False}, [stored(0, 40), stored(1, 40)]),
    ]
    for settings, parts in requests:
        async with peer(lambda head: http(200, created(80))) as server:
            assert await output(server, **settings).write(Request(parts)) == AllDelivered()
        head, body = server.asked[0]
        assert head.startswith("POST /_bulk?filter_path=")
        text = body if settings else gzip.decompress(body)
        actions = [json.loads(line)["create"] for line in text.splitlines()[::2]]
        assert [action["_index"] for action in actions] == [name for part in parts for name in part.destinations]
        assert [action["_id"] for action in actions] == [event_id for part in parts for event_id in part.ids]
