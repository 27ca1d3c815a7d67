"""The index template: a mapping that refuses almost nothing, fitted to what the server knows. Pure.

It is built for Elasticsearch 8.14 and later. An older one or an OpenSearch refuses a part of it and names that
part; `adapted` takes the part out or puts what that server has in its place, until nothing is refused.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from mcp_ingest.codecs.names import ECS_NAMES, FLAT_FIELDS, FieldType

Template = dict[str, Any]
Mapping = dict[str, Any]

#: Above the built-in `logs-*-*` (100), below Fleet's (200).
PRIORITY = 150

_KEYWORD: Mapping = {"type": "keyword", "ignore_above": 1024}
_TYPES: dict[FieldType, Mapping] = {
    "time": {"type": "date_nanos"},
    "keyword": _KEYWORD,
    "text": {"type": "match_only_text"},
    "number": {"type": "double"},
    "integer": {"type": "long"},
    "map": {"type": "flattened", "ignore_above": 1024, "depth_limit": 1000},
}
#: What the daemon itself adds to an event.
_OWN_FIELDS: dict[str, Mapping] = {
    "@timestamp": {"type": "date_nanos"},
    "tag": _KEYWORD,
    "pipeline_error": _KEYWORD,
}


def index_template(
    pattern: str, *, data_stream: bool = False, shards: int | None = None, replicas: int | None = None
) -> Template:
    """The body of `PUT /_index_template/…` for indices or data streams that fit `pattern`."""
    settings: dict[str, Any] = {
        "index.mapping.ignore_malformed": True,
        "index.mapping.total_fields.ignore_dynamic_beyond_limit": True,
        "index.refresh_interval": "5s",
    }
    if shards is not None:
        settings["index.number_of_shards"] = shards
    if replicas is not None:
        settings["index.number_of_replicas"] = replicas
    return {
        "index_patterns": [pattern],
        "priority": PRIORITY,
        "template": {"settings": settings, "mappings": _mappings()},
        "_meta": {
            "managed_by": "mcp-ingest",
            "description": "Logs of the platform's flat schema, ECS names as aliases",
        },
        **({"data_stream": {}} if data_stream else {}),
    }


def _mappings() -> dict[str, Any]:
    flat = {name: dict(_TYPES[kind]) for name, kind in FLAT_FIELDS.items()}
    aliases = {name: {"type": "alias", "path": flat_name} for name, flat_name in ECS_NAMES.items()}
    return {
        "dynamic": True,
        "subobjects": False,
        "date_detection": False,
        "numeric_detection": False,
        "dynamic_templates": [{"strings": {"match_mapping_type": "string", "mapping": dict(_KEYWORD)}}],
        "properties": {name: dict(field) for name, field in _OWN_FIELDS.items()} | flat | aliases,
    }


# --- fitting it to the server ------------------------------------------------------------------------------


def _retyped(old: str, new: str) -> Callable[[Template], None]:
    def change(template: Template) -> None:
        for field in template["template"]["mappings"]["properties"].values():
            if field["type"] == old:
                field.clear()
                field["type"] = new

    return change


def _without_mapping(name: str) -> Callable[[Template], None]:
    return lambda template: template["template"]["mappings"].pop(name, None)


def _without_setting(name: str) -> Callable[[Template], None]:
    return lambda template: template["template"]["settings"].pop(name, None)


#: What a refusal names -> what to do about it.
_ADAPTATIONS: dict[str, Callable[[Template], None]] = {
    "match_only_text": _retyped("match_only_text", "text"),
    "flattened": _retyped("flattened", "flat_object"),
    "subobjects": _without_mapping("subobjects"),
    "ignore_dynamic_beyond_limit": _without_setting("index.mapping.total_fields.ignore_dynamic_beyond_limit"),
}


def adapted(template: Template, refusal: str) -> Template | None:
    """The template without what the server's `refusal` (its answer as text) names; None if it names nothing of it."""
    changed = copy.deepcopy(template)
    for word, change in _ADAPTATIONS.items():
        if word in refusal:
            change(changed)
    return changed if changed != template else None
