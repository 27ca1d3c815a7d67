"""A pipeline: its stages in order over a batch, where an event that fails never harms its neighbours."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from mcp_ingest.component import Stage, find, on_error
from mcp_ingest.config.model import PipelineConfig
from mcp_ingest.context import Context
from mcp_ingest.event import Batch, Record


class Pipeline:
    """Stages built from their settings. Batches pass one at a time and in order; nothing here does I/O."""

    def __init__(self, name: str, stages: Sequence[Stage], outputs: Sequence[str]) -> None:
        self.name = name
        self.stages = list(stages)
        self.outputs = tuple(outputs)

    def run(self, batch: Batch) -> Batch:
        """What is left of the batch behind the last stage; its `outcome` says what became of the rest."""
        for stage in self.stages:
            if not batch.records:
                break
            batch = _apply(stage, batch)
        return batch

    def mask(self, record: Record) -> Record:
        """The record as all masking rules of the pipeline leave it, exemptions ignored."""
        for stage in self.stages:
            record = stage.mask(record)
        return record


def build_pipeline(config: PipelineConfig, context: Context) -> Pipeline:
    """The pipeline of this configuration; each stage gets the context under its own name."""
    stages = [
        find("stage", stage.type)(stage.settings, dataclasses.replace(context, name=stage.name))
        for stage in config.stages
    ]
    return Pipeline(config.name, stages, config.outputs)


def _apply(stage: Stage, batch: Batch) -> Batch:
    outcome, size = batch.outcome, batch.size
    counted = len(outcome.effects)
    try:
        result = stage.apply(batch)
    except Exception:  # whatever it was, the events are now tried one by one
        del outcome.effects[counted:]  # and counted again
        return _one_by_one(stage, batch)
    if result.outcome is not outcome:
        outcome.take(result.outcome)
        result.outcome = outcome
    result.size = size
    if not stage.keeps_serialised:
        result.serialised = None
    return result


def _one_by_one(stage: Stage, batch: Batch) -> Batch:
    """Apply the stage to each event alone: just those on which it raises meet its `on_error`."""
    results = []
    for index in range(len(batch)):
        single = batch.select([index])
        try:
            results.append(stage.apply(single))
        except Exception as error:  # this event is the one
            results.append(on_error(stage, batch.select([index]), {0: error}))
    whole = Batch.merge(results)
    batch.outcome.take(whole.outcome)
    whole.outcome, whole.size = batch.outcome, batch.size
    return whole
