"""Names of fields: the platform's flat ones, and what other schemas call the same thing. Data only.

`normalize` folds foreign names into flat ones; the Elasticsearch template has the names of `ECS_NAMES` as aliases,
for queries, and so a document must never carry one of them. Both read the same tables.
Sources: Elastic Common Schema 8.17, OpenTelemetry's log data model and semantic conventions 1.30.
"""

from __future__ import annotations

from typing import Literal

FieldType = Literal["time", "keyword", "text", "number", "integer", "map"]

#: The platform's flat schema, in the order in which people read it.
FLAT_FIELDS: dict[str, FieldType] = {
    "timestamp": "time",
    "service_name": "keyword",
    "service_version": "keyword",
    "log_level": "keyword",
    "message": "text",
    "request_id": "keyword",
    "trace_id": "keyword",
    "span_id": "keyword",
    "user_id": "keyword",
    "operation": "keyword",
    "duration_ms": "number",
    "status_code": "integer",
    "metadata": "map",
}

#: Without these an event is not a log line of the platform.
REQUIRED_FIELDS: tuple[str, ...] = ("timestamp", "service_name", "log_level", "message")

#: The five values of `log_level`.
LOG_LEVELS: tuple[str, ...] = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

#: ECS name -> flat field of the same meaning and unit: an alias in the template, folded in a record.
ECS_NAMES: dict[str, str] = {
    "service.name": "service_name",
    "service.version": "service_version",
    "log.level": "log_level",
    "trace.id": "trace_id",
    "span.id": "span_id",
    "user.id": "user_id",
    "event.action": "operation",
    "http.request.id": "request_id",
    "http.response.status_code": "status_code",
}

#: Names that Elasticsearch keeps for itself: a document with one at its root is refused.
ELASTICSEARCH_OWN: frozenset[str] = frozenset(
    {
        "_data_stream_timestamp", "_doc_count", "_feature", "_field_names", "_id", "_ignored", "_ignored_source",
        "_index", "_index_mode", "_inference_fields", "_nested_path", "_parent", "_primary_term", "_routing",
        "_routing_hash", "_seq_no", "_size", "_source", "_tier", "_timestamp", "_tsid", "_ttl", "_type", "_uid",
        "_version",
    }
)  # fmt: skip
