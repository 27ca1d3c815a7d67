"""The JSON Schema of the configuration, out of the same settings that `load` checks against."""

from __future__ import annotations

from typing import Any

import msgspec

from mcp_ingest.component import ByteSize, Duration, Kind, find, names
from mcp_ingest.config.model import HttpSettings, LogSettings, MemorySettings
from mcp_ingest.spool.model import SpoolSettings

#: Numbers and other scalars may come from a variable, so that an editor must take the string for it, too.
_VARIABLE = {"type": "string", "pattern": r"\$\{[^}]+\}"}


def schema() -> dict[str, Any]:
    """A schema (draft 2020-12) that editors complete and check the file with."""
    kinds: tuple[Kind, ...] = ("input", "stage", "output")
    found = {kind: {name: find(kind, name).Config for name in names(kind)} for kind in kinds}
    sections = {"spool": SpoolSettings, "http": HttpSettings, "memory": MemorySettings, "log": LogSettings}
    everything = [config for configs in found.values() for config in configs.values()]
    components, definitions = _components([*everything, *sections.values()])
    references = iter(components)
    refs = {kind: {name: next(references) for name in configs} for kind, configs in found.items()}
    properties = {
        "include": {"description": "Further files, relative to this one.", **_strings()},
        "inputs": _section("Where events come in.", refs["input"], definitions),
        "pipelines": _pipelines(refs["stage"]),
        "outputs": _section("Where events go.", refs["output"], definitions),
        **{name: next(references) for name in sections},
        "reload_on_change": {
            "description": "Reload when the files of the configuration change.",
            "anyOf": [{"type": "boolean"}, _VARIABLE],
            "default": False,
        },
        "workers": {"description": "Worker processes.", "const": 1},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "mcp-ingest configuration",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "$defs": definitions,
    }


def text_of(kind: type[Any]) -> dict[str, Any]:
    """The schema of the types that are ours."""
    if kind is ByteSize:
        return {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "examples": ["512KiB", "8GiB"]}]}
    if kind is Duration:
        return {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "examples": ["500ms", "10s", "7d"]}]}
    raise NotImplementedError(kind)


def _components(types: list[Any]) -> tuple[tuple[dict[str, Any], ...], dict[str, Any]]:
    components, definitions = msgspec.json.schema_components(types, schema_hook=text_of)
    for definition in definitions.values():
        for name, each in definition.get("properties", {}).items():
            definition["properties"][name] = _or_variable(each)
    return components, definitions


def _or_variable(each: dict[str, Any]) -> dict[str, Any]:
    """The property's schema, where a variable may stand for a scalar that is no string."""
    if each.get("type") not in ("integer", "number", "boolean") and "enum" not in each:
        return each
    outside: dict[str, Any] = {key: each[key] for key in ("description", "default") if key in each}
    inside = {key: value for key, value in each.items() if key not in outside}
    return {**outside, "anyOf": [inside, _VARIABLE]}


def _section(description: str, refs: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """`NAME: settings`: a name that is a type has its settings, any other says its `type`."""
    by_name = {}
    for name, ref in refs.items():
        key = ref["$ref"].removeprefix("#/$defs/")
        definition = definitions[key]
        typed = f"{key}.typed"
        properties = {"type": {"const": name, "description": "The component."}, **definition["properties"]}
        definitions[typed] = {**definition, "properties": properties}
        by_name[name] = {"$ref": f"#/$defs/{typed}"}
    other = [{**ref, "required": ["type"]} for ref in by_name.values()]
    named = {name: {"anyOf": [{"type": "null"}, ref, *other]} for name, ref in by_name.items()}
    return {
        "description": description,
        "type": "object",
        "properties": named,
        "additionalProperties": {"anyOf": other},
    }


def _pipelines(stages: dict[str, Any]) -> dict[str, Any]:
    settings = {name: {"anyOf": [{"type": "null"}, ref]} for name, ref in stages.items()}
    one = {"type": "object", "properties": settings, "additionalProperties": False, "maxProperties": 1}
    return {
        "description": "What is done with events; the first pipeline whose `match` fits takes the event.",
        "type": "object",
        "additionalProperties": {
            "type": "object",
            "additionalProperties": False,
            "required": ["match"],
            "properties": {
                "match": {"description": "Tag patterns: `*` one part, `**` any number, `{a,b}`.", **_strings()},
                "stages": {
                    "description": "What is done, in order.",
                    "type": "array",
                    "items": {"anyOf": [{"enum": list(stages)}, {**one, "minProperties": 1}]},
                },
                "outputs": {"description": "Where its events go; all outputs when not written.", **_strings()},
            },
        },
    }


def _strings() -> dict[str, Any]:
    return {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
