"""What `check` says of a configuration that runs all the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mcp_ingest.config import tags
from mcp_ingest.config.model import ComponentConfig, PipelineConfig
from mcp_ingest.spool.model import SpoolSettings


def of(
    pipelines: Mapping[str, PipelineConfig], outputs: Mapping[str, ComponentConfig], spool: SpoolSettings
) -> Iterator[str]:
    """The sentences, each with its place."""
    yield from _unmasked(pipelines)
    yield from _unmatched(pipelines)
    yield from _expendable(pipelines, outputs)
    yield from _backlogs(outputs, spool)


def _unmasked(pipelines: Mapping[str, PipelineConfig]) -> Iterator[str]:
    for pipeline in pipelines.values():
        if not any(stage.type == "redact" for stage in pipeline.stages):
            place, name = pipeline.place, pipeline.name
            yield f"{place}: pipeline `{name}` has no `redact`: card numbers and secrets reach the disk"


def _unmatched(pipelines: Mapping[str, PipelineConfig]) -> Iterator[str]:
    if not tags.covered(["**"], [pattern for pipeline in pipelines.values() for pattern in pipeline.match]):
        last = list(pipelines.values())[-1]
        yield (
            f"{last.place}: some tags fit no pipeline: what no pipeline takes is dead-lettered as unmatched "
            '(a last one with `match: "**"` takes it)'
        )


def _expendable(pipelines: Mapping[str, PipelineConfig], outputs: Mapping[str, ComponentConfig]) -> Iterator[str]:
    for pipeline in pipelines.values():
        if pipeline.outputs and all(outputs[name].settings.best_effort for name in pipeline.outputs):
            yield (
                f"{pipeline.place}: all outputs of pipeline `{pipeline.name}` are `best_effort`: while they are away, "
                "its events are let go when the spool is full"
            )


def _backlogs(outputs: Mapping[str, ComponentConfig], spool: SpoolSettings) -> Iterator[str]:
    for output in outputs.values():
        backlog = output.settings.max_backlog
        if backlog is not None and backlog >= spool.max_bytes:
            yield (
                f"{output.place}: max_backlog of `{output.name}` is never reached: the spool's max_bytes "
                f"({int(spool.max_bytes)} bytes) is not larger"
            )
