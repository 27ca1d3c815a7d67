"""The JSON Schema of the configuration."""

from __future__ import annotations

import json

from mcp_ingest.component import Duration, names
from mcp_ingest.config.schema import schema, text_of


def test_the_schema_knows_every_component() -> None:
    """Each input, stage and output has its settings in the schema, which is JSON."""
    made = json.loads(json.dumps(schema()))
    assert list(made["properties"]["inputs"]["properties"]) == names("input")
    assert list(made["properties"]["outputs"]["properties"]) == names("output")
    stages = made["properties"]["pipelines"]["additionalProperties"]["properties"]["stages"]["items"]["anyOf"]
    assert stages[0]["enum"] == names("stage")


def test_every_reference_leads_somewhere() -> None:
    """No `$ref` points at a definition that is not there."""
    made = schema()
    found = [part.split('"')[0] for part in json.dumps(made).split('"#/$defs/')[1:]]
    assert found
    assert set(found) <= set(made["$defs"])


def test_settings_have_their_descriptions_and_take_variables() -> None:
    """An editor shows what a setting is for, and takes `${NAME}` where a number is wanted."""
    made = schema()
    port = made["$defs"]["HttpSettings"]["properties"]["port"]
    assert port["description"]
    assert port["default"] == 24231
    assert {option["type"] for option in port["anyOf"]} == {"integer", "string"}


def test_spans_are_written_as_text_or_number() -> None:
    """A duration is a number of seconds or a text such as `10s`."""
    assert [option["type"] for option in text_of(Duration)["anyOf"]] == ["number", "string"]
