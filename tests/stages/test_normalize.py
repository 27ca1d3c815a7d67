"""Records of any house come out flat, with a time and a level, and nothing that Elasticsearch refuses."""

from __future__ import annotations

import copy
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_ingest.codecs.names import ECS_NAMES, ELASTICSEARCH_OWN
from tests.stages._apply import RECEIVED, batch, check, one, stage

TIME = "2026-11-22T15:04:05.123Z"
BASE = {"timestamp": TIME, "log_level": "INFO"}


def normalized(record: dict[str, Any], **config: Any) -> dict[str, Any]:
    """What becomes of the record, without what every record here has."""
    got = one("normalize", BASE | record, **config)
    return {key: value for key, value in got.items() if BASE.get(key) != value}


def test_a_record_in_good_shape_is_left_alone() -> None:
    """The same object comes out, unchanged, even with fields and maps of its own."""
    record = BASE | {"message": "x", "error": {"type": "E", "codes": [1]}, "metadata": {"a": 1}, "log": "kept"}
    before = copy.deepcopy(record)
    result = stage("normalize").apply(batch([record]))
    assert result.records[0] is record
    assert record == before


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"service.name": "a"}, {"service_name": "a"}),
        ({"service": {"name": "a", "node": 1}}, {"service_name": "a", "service": {"node": 1}}),
        ({"service": {"name": "a"}}, {"service_name": "a"}),
        ({"service": "a"}, {"service_name": "a"}),
        ({"service": "a", "service_name": "b"}, {"service": "a", "service_name": "b"}),
        ({"http": {"response.status_code": 200}}, {"status_code": 200}),
        ({"http.response": {"status_code": 200}}, {"status_code": 200}),
        ({"http": {"status_code": 200}}, {"status_code": 200}),
        ({"event.duration": 1_500_000}, {"duration_ms": 1.5}),
        ({"event": {"duration": "long"}}, {"metadata": {"event.duration": "long"}}),
        ({"event": {"action": "login", "kind": "event"}}, {"operation": "login", "event": {"kind": "event"}}),
        ({"event": "logged in"}, {"message": "logged in"}),
        ({"resource": {"attributes": {"service.name": "a"}}}, {"service_name": "a"}),
        ({"resource": {"service.environment": "prod"}}, {"metadata": {"environment": "prod"}}),
        ({"deployment.environment.name": "prod"}, {"metadata": {"environment": "prod"}}),
        ({"user": {"id": 7, "name": "x"}}, {"user_id": 7, "user": {"name": "x"}}),
        ({"user": "bob"}, {"user": "bob"}),
        ({"log": "text\n"}, {"message": "text"}),
        ({"log": "text", "message": "m"}, {"log": "text", "message": "m"}),
        ({"log": {"file": {"path": "/x"}}}, {"log": {"file": {"path": "/x"}}}),
        ({"body": {"a": 1}}, {"body": {"a": 1}}),
        ({"msg": "m", "log": "l"}, {"message": "m", "log": "l"}),
        ({"requestId": "r"}, {"request_id": "r"}),
        ({"service.name": None, "service_name": "a"}, {"service_name": "a"}),
        ({"service.name": "a", "service_name": "a"}, {"service_name": "a"}),
        ({"service.name": "a", "service_name": "b"}, {"service_name": "b", "metadata": {"service.name": "a"}}),
        ({"service.name": {"x": 1}}, {"service_name": {"x": 1}}),
        ({"service": [{"name": "a"}]}, {"metadata": {"service": [{"name": "a"}]}}),
        ({"service": ["a"]}, {"service": ["a"]}),
    ],
)
def test_names(record: dict[str, Any], expected: dict[str, Any]) -> None:
    """Foreign names become flat ones wherever they stand; what has no flat place is kept."""
    assert normalized(record) == expected


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"host": "n1"}, {"metadata": {"host": "n1"}}),
        ({"host": "n1", "metadata": {"host": "n2"}}, {"metadata": {"host": "n2", "host_2": "n1"}}),
        ({"host": {"name": "n1", "ip": "10.0.0.1"}}, {"metadata": {"host": "n1"}, "host": {"ip": "10.0.0.1"}}),
        ({"host": ["n1"]}, {"metadata": {"host": ["n1"]}}),
        ({"hostname": "n1"}, {"metadata": {"host": "n1"}}),
        ({"_id": 1, "_source": {"a": 1}}, {"metadata": {"_id": 1, "_source": {"a": 1}}}),
        ({"_SYSTEMD_UNIT": "x"}, {"_SYSTEMD_UNIT": "x"}),
        ({"": 1, " ": 2}, {"unnamed": 1, "unnamed_2": 2}),
        ({"a": {"": {"\t": 1}}}, {"a": {"unnamed": {"unnamed": 1}}}),
        ({"a": [{"": 1}]}, {"a": [{"unnamed": 1}]}),
        ({"metadata": "text"}, {"metadata": {"value": "text"}}),
        ({"metadata": None}, {"metadata": {}}),
        ({"metadata": [1]}, {"metadata": {"value": [1]}}),
        ({"metadata.region": "eu"}, {"metadata": {"region": "eu"}}),
        ({"metadata.": "eu"}, {"metadata": {"unnamed": "eu"}}),
        ({"@timestamp": TIME}, {}),
        ({"@timestamp": "2026-11-22T16:04:05.123+01:00"}, {}),
        ({"@timestamp": "never"}, {"metadata": {"@timestamp": "never"}}),
    ],
)
def test_what_elasticsearch_refuses(record: dict[str, Any], expected: dict[str, Any]) -> None:
    """Blank keys, its own names, a host that is a text, metadata that is no map: kept, but where they do no harm."""
    assert normalized(record) == expected


@pytest.mark.parametrize(
    ("record", "level"),
    [
        ({"log_level": "warn"}, "WARNING"),
        ({"log_level": " Error "}, "ERROR"),
        ({"log_level": "[FATAL]"}, "CRITICAL"),
        ({"log_level": "notice"}, "INFO"),
        ({"log_level": "Level 15"}, "DEBUG"),
        ({"log_level": 40}, "ERROR"),
        ({"log_level": "30"}, "WARNING"),
        ({"log_level": 3}, "ERROR"),
        ({"level": 30}, "INFO"),
        ({"level": 60}, "CRITICAL"),
        ({"level": 4}, "WARNING"),
        ({"level": "err"}, "ERROR"),
        ({"levelno": 30}, "WARNING"),
        ({"levelname": "CRITICAL"}, "CRITICAL"),
        ({"severity": "EMERGENCY"}, "CRITICAL"),
        ({"severity": 400}, "WARNING"),
        ({"severity": 7}, "DEBUG"),
        ({"severity_number": 9}, "INFO"),
        ({"severityNumber": 17}, "ERROR"),
        ({"severity_text": "INFO2"}, "INFO"),
        ({"PRIORITY": "6"}, "INFO"),
        ({"log": {"level": "trace"}}, "DEBUG"),
        ({"log.level": "dpanic"}, "CRITICAL"),
    ],
)
def test_levels(record: dict[str, Any], level: str) -> None:
    """Words and the numbers of each house lead to the five levels, and their source is gone."""
    assert one("normalize", {"timestamp": TIME} | record) == {"timestamp": TIME, "log_level": level}


@pytest.mark.parametrize("level", ["AUDIT", True, 9999, -1, 2.5, ["INFO"], {"a": 1}, "", "x" * 100, "²"])
def test_a_level_that_nobody_knows_stays(level: object) -> None:
    """It is for `validate` to say that it is none."""
    assert one("normalize", {"timestamp": TIME, "log_level": level})["log_level"] == level
    assert one("normalize", {"timestamp": TIME, "level": level})["level"] == level


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"timestamp": "2026-11-22T16:04:05.123456789+01:00"}, "2026-11-22T15:04:05.123456789Z"),
        ({"timestamp": 1_795_359_845}, "2026-11-22T15:04:05.000Z"),
        ({"@timestamp": TIME}, TIME),
        ({"time": "22/Nov/2026:15:04:05 +0000"}, "2026-11-22T15:04:05.000Z"),
        ({"ts": 1_795_359_845_123}, TIME),
        ({"timestamp": None, "ts": 1_795_359_845_123}, TIME),
        ({"timestamp": ""}, "2026-11-22T15:04:05.123456789Z"),
        ({}, "2026-11-22T15:04:05.123456789Z"),
    ],
)
def test_times(record: dict[str, Any], expected: str) -> None:
    """The time is the record's own wherever it stands, else that of receipt, and stands nowhere else."""
    assert one("normalize", {"log_level": "INFO"} | record) == {"log_level": "INFO", "timestamp": expected}


def test_the_protocols_time_comes_before_that_of_receipt() -> None:
    """A forward event without a time of its own has its sender's."""
    assert one("normalize", {}, time=RECEIVED - 10**9) == {"timestamp": "2026-11-22T15:04:04.123456789Z"}
    assert one("normalize", {}, time=2**70) == {"timestamp": "2026-11-22T15:04:05.123456789Z"}


def test_a_field_that_only_looks_like_a_time_stays() -> None:
    """`time` that is a duration is no time."""
    assert one("normalize", {"time": 12.5})["time"] == 12.5


def test_what_is_no_time_is_kept_flagged_and_counted() -> None:
    """The event goes on with the protocol's time, the text is in `metadata`, and an operator can see how many."""
    built = stage("normalize")
    result = built.apply(batch([{"timestamp": "soon"}, {"timestamp": "later", "ts": TIME}, {"timestamp": TIME}]))
    assert [record["timestamp"] for record in result.records] == ["2026-11-22T15:04:05.123456789Z", TIME, TIME]
    assert [record.get("metadata") for record in result.records] == [
        {"timestamp_original": "soon"}, {"timestamp_original": "later"}, None
    ]  # fmt: skip
    assert result.records[0]["pipeline_warnings"] == ["timestamp is not a time"]
    for effect in result.outcome.effects:
        effect()
    name = "mcp_ingest_unusable_timestamps_total"
    assert built.context.metrics.registry.get_sample_value(name, {"stage": "normalize"}) == 2


def test_times_without_a_zone() -> None:
    """`timezone` says where they are meant."""
    got = one("normalize", {"timestamp": "2026-11-22 16:04:05,123"}, timezone="Europe/Berlin")
    assert got["timestamp"] == TIME


def test_names_of_your_own() -> None:
    """`rename` folds what no schema has, nested too, also out of and into `metadata`."""
    rename = {"tool": "operation", "app.id": "service_name", "metadata.req": "request_id", "pod": "metadata.pod"}
    record = {"tool": "search", "app": {"id": "a"}, "metadata": {"req": "r", "x": 1}, "pod": "p"}
    assert normalized(record, rename=rename) == {
        "operation": "search", "service_name": "a", "request_id": "r", "metadata": {"x": 1, "pod": "p"}
    }  # fmt: skip


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"timezone": "Mars/Base"}, "timezone: 'Mars/Base' is not in the tz database"),
        ({"timezone": "../etc/passwd"}, "timezone: "),
        ({"rename": {"a": "_id"}}, "rename: '_id' is a name that Elasticsearch refuses"),
        ({"rename": {"a": "service.name"}}, "rename: 'service.name' is a name that Elasticsearch refuses"),
        ({"rename": {"a": " "}}, "rename: 'a' cannot become ' '"),
        ({"rename": {"a": "a"}}, "rename: 'a' cannot become 'a'"),
    ],
)
def test_mistakes_in_the_settings(config: dict[str, Any], problem: str) -> None:
    """A zone or a name that cannot be is a mistake of the configuration."""
    assert check("normalize", **config)[0].startswith(problem)


def test_a_bad_key_harms_its_own_event_only() -> None:
    """A key that is no text (no input makes one) fails that event."""
    strange: Any = {5: "x"}
    result = stage("normalize").apply(batch([dict(BASE), strange, dict(BASE)]))
    assert result.records == [BASE, BASE]
    assert [letter.record for letter in result.outcome.rejected] == [{5: "x"}]


KEYS = st.sampled_from([*ECS_NAMES, *ELASTICSEARCH_OWN, "service", "log", "http", "host", "name", "response", "", " ",
                        "metadata", "timestamp", "log_level", "@timestamp", "msg", "x"])  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=8)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner), max_leaves=8)


def _paths(value: Any, path: str = "") -> list[str]:
    if isinstance(value, dict):
        inner = [p for key, item in value.items() for p in _paths(item, f"{path}.{key}" if path else key)]
        return [path, *inner]
    if isinstance(value, list):
        return [path, *(p for item in value if isinstance(item, dict) for p in _paths(item, path))]
    return [path]


def _keys(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(key for inner in value.values() for key in _keys(inner))]
    return [key for inner in value for key in _keys(inner)] if isinstance(value, list) else []


@settings(max_examples=300)
@given(st.dictionaries(KEYS, VALUES, max_size=6))
def test_nothing_that_elasticsearch_refuses_comes_out(record: dict[str, Any]) -> None:
    """No alias, no blank key, none of its own names, metadata a map; and normalizing again changes nothing."""
    got = one("normalize", copy.deepcopy(record))
    outside = {key: value for key, value in got.items() if key != "metadata"}
    assert not set(_paths(outside)) & ECS_NAMES.keys()
    assert not ELASTICSEARCH_OWN & got.keys()
    assert all(key.strip() for key in _keys(outside))
    assert isinstance(got.get("metadata", {}), dict)
    assert not isinstance(got.get("host"), str | list | int | float)
    assert one("normalize", copy.deepcopy(got)) == got
    orjson.dumps(got)
