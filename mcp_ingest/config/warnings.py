"""What `check` says of a configuration that runs all the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mcp_ingest.config import loops, tags
from mcp_ingest.config.model import ComponentConfig, LogSettings, PipelineConfig
from mcp_ingest.spool.model import SpoolSettings


def of(
    inputs: Mapping[str, ComponentConfig],
    pipelines: Mapping[str, PipelineConfig],
    outputs: Mapping[str, ComponentConfig],
    spool: SpoolSettings,
    log: LogSettings,
) -> Iterator[str]:
    """The sentences, each with its place."""
    yield from loops.of(inputs, outputs)
    yield from loops.of_the_log(inputs, log)
    yield from _unmasked(pipelines)
    yield from _unmatched(pipelines)
    yield from _expendable(pipelines, outputs)
    yield from _backlogs(outputs, spool)


def _unmasked(pipelines: Mapping[str, PipelineConfig]) -> Iterator[str]:
    for pipeline in pipelines.values():
        place, name = pipeline.place, pipeline.name
        last = max((n for n, stage in enumerate(pipeline.stages) if _masks(stage)), default=None)
        if last is None:
            yield f"{place}: pipeline `{name}` has no `redact`: card numbers and secrets reach the disk"
            continue
        for stage in pipeline.stages[last + 1 :]:
            if stage.type.startswith("parse_"):
                yield (
                    f"{stage.place}: `{stage.name}` stands behind the last `redact` of pipeline `{name}`: "
                    "what it takes out of a text is not masked"
                )


def _masks(stage: ComponentConfig) -> bool:
    return stage.type == "redact" and bool(stage.settings.packs or stage.settings.rules)


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
