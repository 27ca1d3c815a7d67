"""The elasticsearch output against the real server: what is stored, what each fault of it means, and that it heals."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from pathlib import Path
from typing import Any

import pytest

from mcp_ingest.component import ByteSize, Duration
from mcp_ingest.context import Context
from mcp_ingest.errors import OutputError
from mcp_ingest.event import Batch, Origin
from mcp_ingest.outputs.elasticsearch import Elasticsearch as ElasticsearchOutput
from mcp_ingest.outputs.elasticsearch import ElasticsearchConfig
from mcp_ingest.verdict import (
    DELIVERED,
    DUPLICATE,
    AllDelivered,
    Each,
    Malformed,
    Park,
    ParkAll,
    Refused,
    Request,
    Retry,
    TooLarge,
    Unknown,
    Verdicts,
)
from tests.integration.servers import Elasticsearch
from tests.integration.writing import Make, each, eventually, request

pytestmark = pytest.mark.timeout(180)


async def stored_in_the_end(writer: ElasticsearchOutput, sent: Request) -> None:
    """Send one event until it is stored, while each answer before says that the server is short of room.

    The server can turn away even the sending of its answer, after it stored the event: that is Unknown, and only
    behind one of those may the event be a duplicate.
    """
    good: list[Verdicts] = [AllDelivered()]
    for _ in range(100):
        match await writer.write(sent):
            case found if found in good:
                return
            case Unknown(overloaded=True):
                good = [AllDelivered(), Each([DUPLICATE])]
            case Each([Retry()]):
                pass
            case found:
                pytest.fail(f"neither stored nor short of room: {found}")
        await asyncio.sleep(0.05)
    pytest.fail("never stored")


# --- what is stored ----------------------------------------------------------------------------------------


async def test_events_are_created_once(elasticsearch: Elasticsearch, output: Make, name: str) -> None:
    """Each is stored under its id; the same request again is all duplicates, and nothing is there twice."""
    records = [{"message": f"m{i}", "n": i} for i in range(300)]
    sent = request(name, records, [f"id-{i}" for i in range(300)])
    writer = output(elasticsearch)
    assert await writer.write(sent) == AllDelivered()
    assert each(await writer.write(sent)) == [DUPLICATE] * 300
    hits = elasticsearch.search(name)
    assert {hit["_id"]: hit["_source"]["n"] for hit in hits} == {f"id-{i}": i for i in range(300)}


async def test_a_mixture_of_new_and_known_is_told_apart(elasticsearch: Elasticsearch, output: Make, name: str) -> None:
    """Beside a duplicate the new event is delivered."""
    writer = output(elasticsearch, compression=False)
    await writer.write(request(name, [{}], ["a"]))
    assert each(await writer.write(request(name, [{}, {}], ["a", "b"]))) == [DUPLICATE, DELIVERED]


async def test_a_mapping_conflict_harms_no_neighbour(elasticsearch: Elasticsearch, output: Make, name: str) -> None:
    """The guilty event is refused with its field, without its value; its neighbours are stored."""
    writer = output(elasticsearch)
    found = each(await writer.write(request(name, [{"n": 1}, {"n": "s3cret"}, {"n": {"deep": 1}}, {"n": 2}])))
    assert [type(verdict) for verdict in found] == [type(DELIVERED), Refused, Refused, type(DELIVERED)]
    for refused in found[1:3]:
        assert isinstance(refused, Refused)
        assert (refused.field, refused.kind) == ("n", "document_parsing_exception")
        assert "s3cret" not in refused.why
    assert elasticsearch.count(name) == 2


async def test_two_destinations_in_one_request(elasticsearch: Elasticsearch, output: Make, name: str) -> None:
    """A closed index parks its own events; the others of the same request are stored."""
    writer = output(elasticsearch)
    elasticsearch.request("PUT", f"/{name}-closed")
    elasticsearch.request("POST", f"/{name}-closed/_close")
    both = request(name, [{}, {}])
    both.parts[0].destinations = [f"{name}-closed", name]
    park, delivered = each(await writer.write(both))
    assert isinstance(park, Park)
    assert "index_closed_exception" in park.why
    assert delivered is DELIVERED
    elasticsearch.request("POST", f"/{name}-closed/_open?wait_for_active_shards=1")
    assert await writer.write(request(f"{name}-closed", [{}])) == AllDelivered()


async def test_the_address_of_any_event_is_one_that_the_server_takes(
    elasticsearch: Elasticsearch, output: Make, name: str
) -> None:
    """Hostile values in the index's name end in an index, not in a refusal."""
    writer = output(elasticsearch, index=name + "-{service_name}-{@timestamp:%Y.%m.%d}")
    values = ["A B", "..", "-x", "_y", 'q"*\\/?<>|,#:', "x" * 400, "Größe", "日本", "İ", "\x00", None, {"a": 1}, 3.5]
    now = time.time_ns()
    records = [{"service_name": value} for value in values]
    batch = Batch.of(Origin("i", "p" * 20, now), "t", [now] * len(values), records, list(range(len(values))))
    sent = request(name, list(batch.records))
    sent.parts[0].destinations = writer.address(batch)
    assert await writer.write(sent) == AllDelivered()


# --- the template ------------------------------------------------------------------------------------------

HOSTILE: list[Any] = [
    {"log": "text"},
    {"log": {"file": "x"}},
    {"user": "bob"},
    {"user": {"name": "bob"}},
    {"user": ["bob", {"name": 1}]},
    {"app": "x"},
    {"app.kubernetes.io/name": "y"},
    {"app": {"kubernetes.io/name": "z"}},
    {"message": {"an": "object"}},
    {"service_name": {"an": "object"}},
    {"duration_ms": "notnum"},
    {"duration_ms": {"value": 3}},
    {"status_code": 2**70},
    {"status_code": "many"},
    {"timestamp": "garbage"},
    {"timestamp": "2500-01-01T00:00:00Z"},
    {"timestamp": 17},
    {"long": "x" * 40_000},
    {"service_name": "x" * 40_000},
    {"a.": 1},
    {"c..d": 1},
    {".": 1},
    {"new_number": 1},
    {"new_number": "text"},
    {"new_number": {"now": "an object"}},
    {"metadata": {"any": {"thing": [1, {"a": 2}]}, "big": "x" * 40_000}},
    {"conflict.duration_ms": '"notnum"'},
    {"error": "text", "error.message": "more"},
    {"deep": {"a": {"b": {"c": {"d": 1}}}}},
    {"nothing": None, "empty": [], "list": ["a", None, "b"]},
    {"metadata": json.loads('{"a":' * 200 + "1" + "}" * 200)},
    b'{"n":1e400}',
    {"when": "2026-11-22"},
    {"when": "not a date"},
]


async def test_the_mapping_refuses_almost_nothing(elasticsearch: Elasticsearch, output: Make, name: str) -> None:
    """Hostile documents are all taken: names of other schemas, new types for known fields, what no field can hold."""
    writer = output(elasticsearch, index=name + "-{@timestamp:%Y.%m.%d}", replicas=0)
    await writer.start()
    index = f"{name}-2026.11.22"
    found = await writer.write(request(index, HOSTILE))
    assert found == AllDelivered(), [
        (record, verdict) for record, verdict in zip(HOSTILE, each(found), strict=True) if verdict is not DELIVERED
    ]
    assert elasticsearch.count(index) == len(HOSTILE)


async def test_what_the_mapping_cannot_take_is_named_for_the_repair(
    elasticsearch: Elasticsearch, output: Make, name: str
) -> None:
    """A new field of two types in one event, and metadata that is no map, are refused with the field's name."""
    writer = output(elasticsearch, index=name + "-{tag}")
    await writer.start()
    found = each(await writer.write(request(f"{name}-x", [{"mixed": [1, "a"]}, {"metadata": "text"}])))
    assert [refused.field for refused in found if isinstance(refused, Refused)] == ["mixed", "metadata"]


async def test_more_fields_than_the_limit_are_taken(elasticsearch: Elasticsearch, output: Make, name: str) -> None:
    """Beyond a thousand fields the new ones are kept and not indexed, and no event is refused."""
    writer = output(elasticsearch, index=name + "-{tag}")
    await writer.start()
    explosion = [{f"field_{i}_{j}": j for j in range(150)} for i in range(10)]
    assert await writer.write(request(f"{name}-x", explosion)) == AllDelivered()


async def test_names_of_the_common_schema_find_the_flat_fields(
    elasticsearch: Elasticsearch, output: Make, name: str
) -> None:
    """ECS names, flattened metadata, ranges of time, the message's words: all are searchable."""
    writer = output(elasticsearch, index=name + "-{tag}")
    await writer.start()
    index = f"{name}-x"
    record = {
        "@timestamp": "2026-11-22T12:00:00.123456789Z",
        "timestamp": "2026-11-22T12:00:00.123456789Z",
        "service_name": "model-router",
        "log_level": "ERROR",
        "message": "The quick brown fox",
        "trace_id": "abc",
        "duration_ms": 12.5,
        "status_code": 503,
        "metadata": {"region": "eu-west-1", "environment": "production"},
    }
    await writer.write(request(index, [record, {"service_name": "other", "log_level": "INFO", "message": "no"}]))
    queries = ["service.name:model-router", "log.level:ERROR AND trace.id:abc", "message:fox",
               "metadata.region:eu-west-1", "status_code:[500 TO 599]", "http.response.status_code:503",
               "timestamp:[2026-11-22T12:00:00.123456788Z TO 2026-11-22T12:00:00.123456789Z]"]  # fmt: skip
    for query in queries:
        hits = elasticsearch.search(index, {"query": {"query_string": {"query": query}}})
        assert [hit["_source"] for hit in hits] == [record], query


async def test_a_name_that_is_an_alias_is_refused_with_its_name(
    elasticsearch: Elasticsearch, output: Make, name: str
) -> None:
    """What `normalize` folds before must not come: it is refused, and the field is named for the repair."""
    writer = output(elasticsearch, index=name + "-{tag}")
    await writer.start()
    nested, dotted = each(await writer.write(request(f"{name}-x", [{"service": {"name": "x"}}, {"log.level": "x"}])))
    assert isinstance(nested, Refused)
    assert isinstance(dotted, Refused)
    assert (nested.field, dotted.field) == ("service.name", "log.level")


async def test_a_template_is_installed_once(elasticsearch: Elasticsearch, output: Make, name: str) -> None:
    """The first start installs it under the index's name; what an operator changed after stays."""
    writer = output(elasticsearch, index=name + "-{@timestamp:%Y.%m.%d}", shards=2, replicas=0)
    await writer.start()
    status, answer = elasticsearch.request("GET", f"/_index_template/{name}")
    assert status == 200
    template = answer["index_templates"][0]["index_template"]
    assert template["index_patterns"] == [f"{name}-*"]
    template["priority"] = 151
    elasticsearch.request("PUT", f"/_index_template/{name}", template)
    await writer.start()
    _, answer = elasticsearch.request("GET", f"/_index_template/{name}")
    assert answer["index_templates"][0]["index_template"]["priority"] == 151


async def test_a_data_stream_takes_each_event_once(elasticsearch: Elasticsearch, output: Make, name: str) -> None:
    """The first bulk makes the stream; a repeated id is a duplicate, an event without a time is refused."""
    writer = output(elasticsearch, data_stream=f"logs-{name}-default", replicas=0)
    await writer.start()
    (stream,) = set(writer.address(Batch.of(Origin("i", "p" * 20, 1), "t", [1], [{}], [0])))
    record = {"@timestamp": "2026-11-22T12:00:00Z", "message": "m"}
    assert await writer.write(request(stream, [record], ["a"])) == AllDelivered()
    duplicate, refused = each(await writer.write(request(stream, [record, {"message": "m"}], ["a", "b"])))
    assert duplicate is DUPLICATE
    assert isinstance(refused, Refused)
    assert elasticsearch.count(stream) == 1


# --- a destination that takes nothing ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "error"),
    [("read_only_allow_delete", "429 cluster_block_exception"), ("write", "403 cluster_block_exception")],
)
async def test_a_blocked_index_parks(
    elasticsearch: Elasticsearch, output: Make, name: str, block: str, error: str
) -> None:
    """The disk's flood stage and a write block hold the index's events, until the block is gone."""
    writer = output(elasticsearch)
    elasticsearch.request("PUT", f"/{name}")
    elasticsearch.request("PUT", f"/{name}/_settings", {f"index.blocks.{block}": True})
    (found,) = each(await writer.write(request(name, [{}])))
    assert isinstance(found, Park)
    assert found.why.startswith(error)
    elasticsearch.request("PUT", f"/{name}/_settings", {f"index.blocks.{block}": None})
    assert await writer.write(request(name, [{}])) == AllDelivered()


async def test_a_missing_ingest_pipeline_parks(elasticsearch: Elasticsearch, output: Make, name: str) -> None:
    """A pipeline that is not there is a matter of the set-up: no event is lost to it."""
    (found,) = each(await output(elasticsearch, pipeline="nope").write(request(name, [{}])))
    assert isinstance(found, Park)


async def test_a_wrong_path_parks_all(elasticsearch: Elasticsearch, output: Make, name: str) -> None:
    """An address that is not Elasticsearch's own is a sentence, not a dead letter for each event."""
    config = ElasticsearchConfig(hosts=[elasticsearch.url + "/not/here"])
    writer = ElasticsearchOutput(config, Context())
    found = await writer.write(request(name, [{}]))
    await writer.close()
    assert isinstance(found, ParkAll)
    assert "no handler found" in found.why


async def test_a_bad_id_makes_the_whole_request_malformed(
    elasticsearch: Elasticsearch, output: Make, name: str
) -> None:
    """The server refuses all for one: delivery bisects until the guilty event is alone."""
    found = await output(elasticsearch).write(request(name, [{}, {}], ["ok", "x" * 600]))
    assert isinstance(found, Malformed)
    assert len(found.why) < 700


# --- a server with narrow limits ---------------------------------------------------------------------------


async def test_a_missing_index_parks(narrow: Elasticsearch, output: Make, name: str) -> None:
    """Without auto-creation an index that nobody made holds its events, not millions of dead letters."""
    writer = output(narrow)
    (found,) = each(await writer.write(request(name, [{}])))
    assert isinstance(found, Park)
    assert found.why.startswith("404 index_not_found_exception")
    narrow.request("PUT", f"/{name}")
    assert await writer.write(request(name, [{}])) == AllDelivered()


async def test_a_request_over_the_servers_limit_is_too_large(narrow: Elasticsearch, output: Make, name: str) -> None:
    """413 means: halve."""
    narrow.request("PUT", f"/{name}")
    writer = output(narrow, compression=False, max_request_bytes=ByteSize(100_000))
    records = [{"message": "x" * 1000} for _ in range(100)]
    assert isinstance(await writer.write(request(name, records)), TooLarge)
    assert await writer.write(request(name, records[:40])) == AllDelivered()


async def test_a_full_queue_retries_just_what_was_rejected(narrow: Elasticsearch, output: Make, name: str) -> None:
    """Items that the write queue turned away are retried; with their neighbours' verdicts they sum up."""
    narrow.request("PUT", f"/{name}", {"settings": {"number_of_shards": 4, "number_of_replicas": 0}})
    writer = output(narrow)
    records, ids = [{"n": i} for i in range(200)], [f"id-{i}" for i in range(200)]
    found = each(await writer.write(request(name, records, ids)))
    rejected = [i for i, verdict in enumerate(found) if isinstance(verdict, Retry)]
    assert rejected
    assert all(verdict is DELIVERED for i, verdict in enumerate(found) if i not in rejected)
    assert narrow.count(name) == 200 - len(rejected)
    for i in rejected:
        await stored_in_the_end(writer, request(name, [records[i]], [ids[i]]))
    assert narrow.count(name) == 200


async def test_a_server_that_hangs_costs_the_deadline(narrow: Elasticsearch, output: Make, name: str) -> None:
    """SIGSTOP: the result is unknown after `request_seconds`; after SIGCONT the same output delivers again."""
    narrow.request("PUT", f"/{name}")
    writer = output(narrow, request_seconds=Duration(1))
    assert await writer.write(request(name, [{}], ["a"])) == AllDelivered()
    narrow.pause()
    try:
        began = time.monotonic()
        found = await writer.write(request(name, [{}, {}], ["a", "b"]))
        assert time.monotonic() - began < 4
        with pytest.raises(OutputError, match="did not answer within 1 s"):
            await writer.start()
    finally:
        narrow.resume()
    assert isinstance(found, Unknown)
    assert "did not answer within 1 s" in found.why
    again = await eventually(writer, request(name, [{}, {}], ["a", "b"]), Unknown)
    assert set(each(again)) <= {DUPLICATE, DELIVERED}
    assert narrow.count(name) == 2


async def test_a_killed_server_is_unknown_until_it_is_back(narrow: Elasticsearch, output: Make, name: str) -> None:
    """kill -9 and a new start: the same output delivers again, and what was acknowledged is there."""
    narrow.request("PUT", f"/{name}")
    writer = output(narrow)
    assert await writer.write(request(name, [{}], ["a"])) == AllDelivered()
    narrow.kill()
    found = await writer.write(request(name, [{}], ["b"]))
    assert isinstance(found, Unknown)
    with pytest.raises(OutputError):
        await writer.start()
    narrow.restart()
    again = await eventually(writer, request(name, [{}, {}], ["a", "b"]), Unknown)
    assert each(again) == [DUPLICATE, DELIVERED]
    await writer.start()


# --- TLS and a password ------------------------------------------------------------------------------------


async def test_a_wrong_password_parks_all_and_heals(
    secured: tuple[Elasticsearch, Path], output: Make, name: str
) -> None:
    """One sentence names server, user and reason; once the password is right the same output delivers."""
    server, directory = secured
    settings = {"username": "writer", "password": "new-password", "ca_file": str(directory / "ca.pem")}
    writer = output(server, **settings)
    found = await writer.write(request(name, [{}]))
    assert isinstance(found, ParkAll)
    assert found.why.startswith(f"Elasticsearch at {server.url} refuses user writer: 401 security_exception: ")
    with pytest.raises(OutputError, match="refuses user writer: 401"):
        await writer.start()
    server.set_password("writer", "new-password")
    assert await eventually(writer, request(name, [{}]), ParkAll) == AllDelivered()
    assert server.count(name) == 1


async def test_a_role_without_the_right_to_templates_is_warned_of(
    secured: tuple[Elasticsearch, Path], output: Make, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """403 on the template is one line of log; the events go on."""
    server, directory = secured
    settings = {"username": "writer", "password": server.users["writer"][0], "ca_file": str(directory / "ca.pem")}
    writer = output(server, index=name + "-{tag}", **settings)
    await writer.start()
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "is not installed, events go on without it: 403 security_exception" in record.getMessage()
    assert await writer.write(request(f"{name}-x", [{}])) == AllDelivered()


async def test_an_untrusted_certificate_parks_all_and_heals(
    secured: tuple[Elasticsearch, Path], output: Make, name: str, tmp_path: Path
) -> None:
    """One sentence says what is not trusted; with the right authority in `ca_file` the same output delivers."""
    server, directory = secured
    authority = tmp_path / "ca.pem"
    authority.write_bytes((directory / "stranger.pem").read_bytes())
    writer = output(server, username="admin", password="admin-password", ca_file=str(authority))
    found = await writer.write(request(name, [{}]))
    assert isinstance(found, ParkAll)
    assert found.why.startswith(f"the certificate of Elasticsearch at {server.url} is not trusted: ")
    authority.write_bytes((directory / "ca.pem").read_bytes())
    await writer.write(request(name, [{}]))
    assert await writer.write(request(name, [{}])) == AllDelivered()


async def test_plain_http_towards_tls_is_unknown(secured: tuple[Elasticsearch, Path], output: Make, name: str) -> None:
    """A URL with `http` for a server with TLS gives a sentence, whatever the server does to the connection."""
    server, _ = secured
    config = ElasticsearchConfig(hosts=[server.url.replace("https", "http")])
    writer = ElasticsearchOutput(config, Context())
    found = await writer.write(request(name, [{}]))
    await writer.close()
    assert isinstance(found, Unknown | ParkAll)
