"""Stages, pipelines and outputs out of a configuration; what is unchanged is the object that was there before.

A stage stays with its state (windows, counters) where its pipeline's name, its own and its settings are the same, an
output where its name, type and settings are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mcp_ingest.component import Kind, Output, Stage, find
from mcp_ingest.config.changes import same_component
from mcp_ingest.config.model import ComponentConfig, Configuration, PipelineConfig
from mcp_ingest.config.tags import compile_patterns
from mcp_ingest.context import Context
from mcp_ingest.engine import letters
from mcp_ingest.engine.intake import Route
from mcp_ingest.engine.pipeline import Pipeline
from mcp_ingest.errors import ConfigError, IngestError
from mcp_ingest.event import describe
from mcp_ingest.metrics import Metrics, Series, StagedMetrics


@dataclass(frozen=True, slots=True)
class BuiltStage:
    """A stage, what it was built of, and the metrics that it declared."""

    config: ComponentConfig
    stage: Stage
    series: tuple[Series, ...]


@dataclass(slots=True)
class Parts:
    """What is built of a configuration; the stages by the names of pipeline and stage.

    What the stages declare is on /metrics once `metrics` is published.
    """

    config: Configuration
    metrics: StagedMetrics
    stages: dict[tuple[str, str], BuiltStage] = field(default_factory=dict)
    routes: list[Route] = field(default_factory=list)
    outputs: dict[str, Output] = field(default_factory=dict)


def build_parts(
    config: Configuration, metrics: Metrics, context: Callable[[str], Context], before: Parts | None = None
) -> Parts:
    """Build what is new or changed, take over the rest from `before`; `context` makes one of a component's name.

    IngestError when a part cannot be built.
    """
    parts = Parts(config, metrics.staged())
    for pipeline in config.pipelines.values():
        parts.stages.update(_unchanged(pipeline, before))
    for built in parts.stages.values():
        parts.metrics.keep(built.series)
    for pipeline in config.pipelines.values():
        stages = [_stage(parts, pipeline, stage, context(stage.name)) for stage in pipeline.stages]
        parts.routes.append(Route(compile_patterns(pipeline.match), Pipeline(pipeline.name, stages, pipeline.outputs)))
    for name, each in config.outputs.items():
        if before is not None and same_component(before.config.outputs.get(name), each):
            parts.outputs[name] = before.outputs[name]
        else:
            parts.outputs[name] = build("output", each, context(name))
    return parts


def build(kind: Kind, config: ComponentConfig, context: Context) -> Any:
    """The component of these settings; IngestError where its class raises."""
    try:
        return find(kind, config.type)(config.settings, context)
    except ConfigError as error:
        raise ConfigError([f"{config.place}: {problem}" for problem in error.problems]) from None
    except Exception as error:
        why = letters.safe_text(describe(error))
        raise IngestError(f"{config.place}: the {kind} `{config.name}` cannot be built: {why}") from error


def _unchanged(pipeline: PipelineConfig, before: Parts | None) -> dict[tuple[str, str], BuiltStage]:
    """The stages that stay."""
    found = {}
    for stage in pipeline.stages:
        key = pipeline.name, stage.name
        built = before.stages.get(key) if before is not None else None
        if built is not None and same_component(built.config, stage):
            found[key] = built
    return found


def _stage(parts: Parts, pipeline: PipelineConfig, config: ComponentConfig, context: Context) -> Stage:
    key = pipeline.name, config.name
    if key not in parts.stages:
        declared = len(parts.metrics.declared)
        stage: Stage = build("stage", config, dataclasses.replace(context, metrics=parts.metrics))
        parts.stages[key] = BuiltStage(config, stage, tuple(parts.metrics.declared[declared:]))
    return parts.stages[key].stage
