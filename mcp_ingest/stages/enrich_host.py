"""Adds where the event passed through: host, environment, region and what else you set, all into `metadata`.

What the event says itself stays: nothing is overwritten. A `metadata` that is no map becomes `{"value": it}`. The
host is the one that mcp-ingest runs on; an application on another one names its own as `metadata.host`.
"""

from __future__ import annotations

import socket
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from mcp_ingest.component import Example, Stage, StageSettings
from mcp_ingest.context import Context
from mcp_ingest.event import Batch
from mcp_ingest.stages._record import metadata_of


class EnrichHostConfig(StageSettings):
    """Settings of `enrich_host`."""

    host: Annotated[str | None, Meta(description="Name of the host; by default the machine's own.")] = None
    environment: Annotated[str, Meta(description="As `metadata.environment`: production, staging, …")] = ""
    region: Annotated[str, Meta(description="As `metadata.region`: the data centre or the cloud's region.")] = ""
    fields: Annotated[
        dict[str, str | int | float | bool], Meta(description="Further fields of `metadata`, the same for all events.")
    ] = msgspec.field(default_factory=dict)


class EnrichHost(Stage):
    """See the module."""

    Config = EnrichHostConfig
    EXAMPLES = (
        Example(
            "What the event lacks is added",
            {"host": "node-1", "environment": "production", "region": "eu-west-1"},
            given={"message": "started"},
            expected={
                "message": "started",
                "metadata": {"host": "node-1", "environment": "production", "region": "eu-west-1"},
            },
        ),
        Example(
            "What it says itself stays",
            {"host": "node-1", "environment": "production", "fields": {"cluster": "blue"}},
            given={"metadata": {"environment": "staging", "pod": "router-7"}},
            expected={
                "metadata": {"host": "node-1", "environment": "staging", "cluster": "blue", "pod": "router-7"},
            },
        ),
    )

    def __init__(self, config: EnrichHostConfig, context: Context) -> None:
        super().__init__(config, context)
        host = socket.gethostname() if config.host is None else config.host
        named = {"host": host, "environment": config.environment, "region": config.region}
        self._defaults: dict[str, Any] = {**{k: v for k, v in named.items() if v}, **config.fields}

    def apply(self, batch: Batch) -> Batch:
        """Add to each record's `metadata` what it lacks."""
        defaults = self._defaults
        for record in batch.records:
            metadata = record.get("metadata")
            if metadata.__class__ is not dict:
                metadata = metadata_of(record)
            record["metadata"] = defaults | metadata
        return batch
