"""A pipeline: its stages in order over a batch, where an event that fails never harms its neighbours.

Tags are masked before the first stage, by the rules of all stages that mask: applications put data into them, and they
become names of files and indices. Only the choice of the pipeline sees them as they came.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from mcp_ingest.component import Stage, find, on_error
from mcp_ingest.config.model import PipelineConfig
from mcp_ingest.context import Context
from mcp_ingest.engine import letters
from mcp_ingest.event import Batch, Record

#: Masked tags that are remembered, and the longest of them: tags come from outside.
_TAGS, _LONGEST = 10_000, 1_000


class Pipeline:
    """Stages built from their settings. Batches pass one at a time and in order; nothing here does I/O."""

    def __init__(self, name: str, stages: Sequence[Stage], outputs: Sequence[str]) -> None:
        self.name = name
        self.stages = list(stages)
        self.outputs = tuple(outputs)
        self._masks = any(type(stage).mask is not Stage.mask for stage in self.stages)
        self._masked_tags: dict[str, str] = {}

    def run(self, batch: Batch) -> Batch:
        """What is left of the batch behind the last stage; its `outcome` says what became of the rest."""
        if self._masks:
            self._mask_tags(batch)
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

    def _mask_tags(self, batch: Batch) -> None:
        """A look at each tag that is new; batches have few different ones."""
        known = self._masked_tags
        changed = {tag: masked for tag in set(batch.tags) if (masked := known.get(tag) or self._new_tag(tag)) != tag}
        if changed:
            batch.tags = [changed.get(tag, tag) for tag in batch.tags]

    def _new_tag(self, tag: str) -> str:
        masked = letters.masked_tag(tag, self.mask)
        if len(tag) <= _LONGEST:
            if len(self._masked_tags) >= _TAGS:
                self._masked_tags.clear()
            self._masked_tags[tag] = masked
        return masked


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
