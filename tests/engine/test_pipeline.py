"""A pipeline, and the event that fails in it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from mcp_ingest.component import Stage, StageSettings, for_each_event
from mcp_ingest.context import Context
from mcp_ingest.engine import letters
from mcp_ingest.engine.pipeline import Pipeline
from mcp_ingest.errors import StageError
from mcp_ingest.event import Batch, Event, Origin, Record, Term
from mcp_ingest.stages.redact import Redact, _Rule


class _Whole(Stage):
    """Fails on the batch when any event is bad: the engine has to find which."""

    def apply(self, batch: Batch) -> Batch:
        if any(record.get("bad") for record in batch.records):
            raise ValueError("bad event")
        for record in batch.records:
            record["seen"] = True
        return batch


class _Each(Stage):
    """The same, as a function of one event."""

    @for_each_event
    def apply(self, event: Event) -> None:
        if event.record.get("bad"):
            raise StageError("bad event")
        event.record["seen"] = True


class _Filter(Stage):
    def apply(self, batch: Batch) -> Batch:
        batch.outcome.effects.append(lambda: None)
        return batch.keep([not record.get("noise") for record in batch.records], Term.FILTERED, "noise")


def _batch(*records: dict[str, Any]) -> Batch:
    half = len(records) // 2
    origins = [Origin("one", "A" * 20, 1), Origin("two", "B" * 20, 1)]
    count = len(records)
    return Batch(["t"] * count, [0] * count, list(records), list(range(count)), origins, [half, count])


def _stage(kind: type[Stage], on_error: Any = "dead_letter") -> Stage:
    return kind(StageSettings(on_error=on_error), Context("stage"))


@pytest.mark.parametrize("kind", [_Whole, _Each])
def test_the_bad_event_alone_is_a_dead_letter(kind: type[Stage]) -> None:
    """Its neighbours go on, it keeps its record and has its reason and its origin."""
    batch = _batch({"n": 0}, {"n": 1, "bad": True}, {"n": 2}, {"n": 3})
    result = Pipeline("p", [_stage(kind)], []).run(batch)
    assert [record["n"] for record in result.records] == [0, 2, 3]
    assert all(record["seen"] for record in result.records)
    assert result.positions == [0, 2, 3]
    assert result.counts() == Counter(one=1, two=2)
    (rejected,) = result.outcome.rejected
    assert rejected.record == {"n": 1, "bad": True}
    assert "bad event" in rejected.reason
    assert rejected.origin.input == "one"


@pytest.mark.parametrize("kind", [_Whole, _Each])
def test_keep_notes_the_error(kind: type[Stage]) -> None:
    """With `on_error: keep` the event goes on as it was, with `pipeline_error`."""
    result = Pipeline("p", [_stage(kind, "keep")], []).run(_batch({"bad": True}, {}))
    assert "bad event" in result.records[0]["pipeline_error"]
    assert "seen" not in result.records[0]
    assert not result.outcome.rejected


@pytest.mark.parametrize("kind", [_Whole, _Each])
def test_drop_is_counted(kind: type[Stage]) -> None:
    """With `on_error: drop` the event is gone and in the ledger."""
    result = Pipeline("p", [_stage(kind, "drop")], []).run(_batch({"bad": True}, {}))
    assert result.outcome.removed == {("one", Term.DROPPED, "stage: on_error"): 1}


def test_what_stages_take_out_adds_up() -> None:
    """Outcomes of several stages are all there behind the last, each effect once."""
    batch = _batch({"noise": 1}, {"bad": 1}, {}, {"noise": 1})
    result = Pipeline("p", [_stage(_Filter), _stage(_Whole), _stage(_Filter)], []).run(batch)
    assert len(result) == 1
    assert result.outcome.removed == {("one", Term.FILTERED, "noise"): 1, ("two", Term.FILTERED, "noise"): 1}
    assert len(result.outcome.rejected) == 1
    assert len(result.outcome.effects) == 2


def test_what_a_failing_pass_counted_is_counted_once() -> None:
    """A stage that notes an effect and then raises counts the events again one by one: the first time is forgotten."""
    counted: list[int] = []

    class Counting(Stage):
        def apply(self, batch: Batch) -> Batch:
            count = len(batch)
            batch.outcome.effects.append(lambda: counted.append(count))
            if any(record.get("bad") for record in batch.records):
                raise ValueError("bad event")
            return batch

    result = Pipeline("p", [_stage(Counting)], []).run(_batch({"bad": True}, {}, {}))
    for effect in result.outcome.effects:
        effect()
    assert sum(counted) == 2


def test_a_stage_may_merge_copies_into_its_batch() -> None:
    """What a batch brought with it stands once in a batch merged from it, also when the stage took something out."""

    class Doubling(Stage):
        def apply(self, batch: Batch) -> Batch:
            batch = batch.keep([not record.get("noise") for record in batch.records], Term.FILTERED, "noise")
            return Batch.merge([batch, batch.select([0])])

    batch = _batch({}, {"noise": 1}, {"bad": 1})
    result = Pipeline("p", [_stage(_Whole), _stage(Doubling)], []).run(batch)
    assert len(result) == 2
    assert len(result.outcome.rejected) == 1
    assert result.outcome.removed == {("two", Term.FILTERED, "noise"): 1}


# --- tags --------------------------------------------------------------------------------------------------

CARD = "4111111111111111"


def _redact(**settings: Any) -> Redact:
    return Redact(Redact.Config(**settings), Context("redact"))


class _NotingTags(Stage):
    """Keeps the tags that it saw, in the records."""

    def apply(self, batch: Batch) -> Batch:
        for record, tag in zip(batch.records, batch.tags, strict=True):
            record["seen"] = tag
        return batch


def _tagged(*tags: str) -> Batch:
    return Batch.of(Origin("in", "A" * 20, 1), [*tags], [0] * len(tags), [{} for _ in tags], [*range(len(tags))])


def test_tags_are_masked_before_the_first_stage() -> None:
    """By the pipeline's rules, whichever stage has them; exemptions do not hold, ids stay."""
    redact = _redact(exempt=["tag"], rules=[_Rule(name="staff", pattern="E-[0-9]+")])
    batch = _tagged(f"shop.{CARD}", "shop.a", f"shop.{CARD}", "shop.E-12")
    ids = batch.ids()
    result = Pipeline("p", [_stage(_NotingTags), redact], []).run(batch)
    masked = ["shop.[REDACTED:card]", "shop.a", "shop.[REDACTED:card]", "shop.[REDACTED:staff]"]
    assert result.tags == masked
    assert [record["seen"] for record in result.records] == masked
    assert result.ids() == ids


def test_an_event_that_fails_has_its_tag_masked() -> None:
    """Also when it fails before `redact`."""
    batch = _tagged(f"shop.{CARD}")
    batch.records[0]["bad"] = True
    result = Pipeline("p", [_stage(_Whole), _redact()], []).run(batch)
    assert [rejected.tag for rejected in result.outcome.rejected] == ["shop.[REDACTED:card]"]


def test_a_pipeline_without_rules_leaves_tags_as_they_are() -> None:
    """As it leaves everything else."""
    batch = _tagged(CARD)
    tags = batch.tags
    assert Pipeline("p", [_stage(_NotingTags)], []).run(batch).tags is tags
    assert tags == [CARD]


def test_a_tag_that_cannot_be_masked_says_nothing() -> None:
    """It fails closed."""

    class Broken(_Filter):
        def mask(self, record: Record) -> Record:
            raise ValueError(record)

    assert Pipeline("p", [_stage(Broken)], []).run(_tagged(CARD)).tags == [letters.WITHHELD]


def test_tags_without_end_take_no_memory_without_end() -> None:
    """What is remembered of them is bounded in number and in length."""
    pipeline = Pipeline("p", [_redact()], [])
    for start in range(0, 12_000, 1000):
        pipeline.run(_tagged(*(f"tag.{number}" for number in range(start, start + 1000))))
    assert pipeline.run(_tagged("x" * 5000 + f".{CARD}")).tags == ["x" * 5000 + ".[REDACTED:card]"]
    assert len(pipeline._masked_tags) <= 10_000
    assert max(map(len, pipeline._masked_tags)) <= 1000
