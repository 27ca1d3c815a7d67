"""Events are held to the schema, and none is lost over it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_ingest.codecs.names import FLAT_FIELDS, LOG_LEVELS
from tests.stages._apply import batch, check, one, stage

GOOD: dict[str, Any] = {
    "timestamp": "2026-11-22T15:04:05.123Z", "service_name": "tools", "log_level": "INFO", "message": "x",
}  # fmt: skip
FULL: dict[str, Any] = GOOD | {
    "service_version": "1", "request_id": "r", "trace_id": "t", "span_id": "s", "user_id": "u", "operation": "o",
    "duration_ms": 1.5, "status_code": 200, "metadata": {},
}  # fmt: skip


def validated(changes: dict[str, Any], **config: Any) -> dict[str, Any]:
    """What validating changes in a good record that is changed so."""
    got = one("validate", GOOD | changes, **config)
    return {key: value for key, value in got.items() if GOOD.get(key) != value}


@pytest.mark.parametrize("record", [GOOD, FULL, FULL | {"user_id": None, "extra": [1]}, GOOD | {"message": ""}])
def test_a_good_record_is_left_alone(record: dict[str, Any]) -> None:
    """The same object comes out, unchanged; fields that are not required may be null."""
    given_record = dict(record)
    assert stage("validate").apply(batch([given_record])).records[0] is given_record
    assert given_record == record


def missing(name: str, filled: str) -> dict[str, Any]:
    """What becomes of a required field that is not there."""
    return {name: filled, "pipeline_warnings": [f"{name} is missing"]}


def aside(name: str, value: object, wanted: str) -> dict[str, Any]:
    """What becomes of a field that cannot be put right."""
    return {"metadata": {"invalid": {name: value}}, "pipeline_warnings": [f"{name} is not {wanted}"]}


NOW = "2026-11-22T15:04:05.123456789Z"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"service_name": None}, missing("service_name", "unknown")),
        ({"service_name": ""}, missing("service_name", "unknown")),
        ({"message": None}, missing("message", "")),
        ({"timestamp": None}, missing("timestamp", NOW)),
        ({"log_level": "AUDIT"}, aside("log_level", "AUDIT", "a level")),
        ({"log_level": ["INFO"]}, aside("log_level", ["INFO"], "a level")),
        ({"service_name": {"a": 1}}, {"service_name": "unknown"} | aside("service_name", {"a": 1}, "a text")),
        ({"timestamp": 1795359845}, {"timestamp": "2026-11-22T15:04:05.000Z"}),
        ({"timestamp": [1]}, {"timestamp": NOW} | aside("timestamp", [1], "a time")),
        ({"message": 17}, {"message": "17"}),
        ({"message": ["a", {"b": 1}]}, {"message": '["a",{"b":1}]'}),
        ({"message": {"a": 2**70}}, {"message": '{"a":"1180591620717411303424"}'}),
        ({"message": [2**70]}, {"message": '["1180591620717411303424"]'}),
        ({"duration_ms": ""}, aside("duration_ms", "", "a number")),
        ({"user_id": 7}, {"user_id": "7"}),
        ({"user_id": True}, {"user_id": "true"}),
        ({"status_code": "502"}, {"status_code": 502}),
        ({"status_code": 502.0}, {"status_code": 502}),
        ({"status_code": 502.5}, aside("status_code", 502.5, "an integer")),
        ({"status_code": True}, aside("status_code", True, "an integer")),
        ({"duration_ms": " 12.5"}, {"duration_ms": 12.5}),
        ({"duration_ms": "12"}, {"duration_ms": 12}),
        ({"duration_ms": "1_0"}, aside("duration_ms", "1_0", "a number")),
        ({"duration_ms": "nan"}, aside("duration_ms", "nan", "a number")),
        ({"metadata": "text"}, {"metadata": {"value": "text"}}),
        (
            {"duration_ms": [1], "metadata": {"b": 2, "invalid": 3}},
            aside("duration_ms", [1], "a number") | {"metadata": {"b": 2, "invalid": {"value": 3, "duration_ms": [1]}}},
        ),
    ],
)
def test_what_is_wrong_is_put_right_or_aside(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    """Each field ends with its own type or in `metadata.invalid`, flagged."""
    assert validated(changes) == expected


def test_what_is_required_can_be_set() -> None:
    """A field of your own is flagged when it is missing or null, filled where a default is given."""
    config: dict[str, Any] = {"required": ["tool", "message"], "defaults": {"message": "-"}}
    assert one("validate", {"tool": "x", "message": "m"}, **config) == {"tool": "x", "message": "m"}
    got = one("validate", {"tool": None}, **config)
    assert got == {"tool": None, "message": "-", "pipeline_warnings": ["message is missing", "tool is missing"]}
    assert one("validate", {}, required=[]) == {}


def test_what_is_flagged_is_counted_by_field() -> None:
    """An operator sees which field is missing how often."""
    built = stage("validate")
    result = built.apply(batch([{**GOOD, "service_name": None}, dict(GOOD), {"message": "x"}]))
    for effect in result.outcome.effects:
        effect()
    value = built.context.metrics.registry.get_sample_value
    labels = {"stage": "validate", "field": "service_name"}
    assert value("mcp_ingest_flagged_fields_total", labels) == 2
    assert value("mcp_ingest_flagged_fields_total", labels | {"field": "log_level"}) == 1


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"defaults": {"tool": "x"}}, "defaults: tool is not among `required`"),
        ({"defaults": {"log_level": "LOUD"}}, "defaults: log_level must be one of DEBUG"),
    ],
)
def test_mistakes_in_the_settings(config: dict[str, Any], problem: str) -> None:
    """A default that nobody would get, or that is no level, is a mistake of the configuration."""
    assert check("validate", **config)[0].startswith(problem)


LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=8)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner), max_leaves=5
)
TYPES: dict[str, Any] = {"time": str, "keyword": str, "text": str, "number": (int, float), "integer": int, "map": dict}


@given(st.dictionaries(st.sampled_from(sorted(FLAT_FIELDS)), VALUES))
def test_every_field_has_its_type(record: dict[str, Any]) -> None:
    """Whatever comes in: nothing is lost, what is required is there, and no field has a foreign type."""
    got = one("validate", record)
    assert all(name in got for name in GOOD)
    assert got["log_level"] in LOG_LEVELS
    for name, kind in FLAT_FIELDS.items():
        assert got.get(name) is None or isinstance(got[name], TYPES[kind])
        assert not (kind in ("number", "integer") and isinstance(got.get(name), bool))
    orjson.dumps(got)
