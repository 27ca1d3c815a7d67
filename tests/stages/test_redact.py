"""Redaction as a stage: masked batches, counts after the commit, failures closed."""

from typing import Any

import msgspec

from mcp_ingest.context import Context
from mcp_ingest.event import Batch, Origin, Term
from mcp_ingest.stages.redact import Redact

ORIGIN = Origin("forward", "p" * 20, 0)
CARD = "4111111111111111"


def stage(**given: Any) -> Redact:
    config = msgspec.convert(given, Redact.Config)
    assert config.check() == []
    return Redact(config, Context(name="redact"))


def batch(*records: dict[str, Any]) -> Batch:
    return Batch.of(ORIGIN, "mcp", [0] * len(records), list(records), list(range(len(records))))


def too_deep() -> dict[str, Any]:
    value: Any = CARD
    for _ in range(150):
        value = {"a": value}
    return {"a": value}


def test_counted_after_the_commit() -> None:
    """Masked values are counted by stage and rule, when the batch's effects are called and not before."""
    made = stage()
    result = made.apply(batch({"a": f"{CARD} {CARD}", "b": "x@example.com"}, {"a": "clean"}))
    registry = made.context.metrics.registry
    labels = {"stage": "redact", "rule": "card"}
    assert registry.get_sample_value("mcp_ingest_redactions_total", labels) is None
    for effect in result.outcome.effects:
        effect()
    assert registry.get_sample_value("mcp_ingest_redactions_total", labels) == 2
    assert registry.get_sample_value("mcp_ingest_redactions_total", {"stage": "redact", "rule": "email"}) == 1
    assert result.records == [{"a": "[REDACTED:card] [REDACTED:card]", "b": "[REDACTED:email]"}, {"a": "clean"}]


def test_fails_closed() -> None:
    """An event that cannot be masked becomes a dead letter, its neighbours go on masked."""
    result = stage().apply(batch({"a": CARD}, too_deep(), {"a": 1}))
    assert result.records == [{"a": "[REDACTED:card]"}, {"a": 1}]
    assert [letter.reason for letter in result.outcome.rejected] == [
        "nested deeper than 100 levels: it cannot be masked"
    ]


def test_fails_closed_by_dropping() -> None:
    """With `on_error: drop` such an event is dropped and counted."""
    result = stage(on_error="drop").apply(batch(too_deep(), {"a": 1}))
    assert result.records == [{"a": 1}]
    assert result.outcome.removed == {("forward", Term.DROPPED, "redact: on_error"): 1}


def test_keep_is_refused() -> None:
    """`on_error: keep` would store what could not be masked: it is a mistake, told with all others."""
    config = msgspec.convert({"on_error": "keep", "rules": [{"name": "a", "pattern": "("}]}, Redact.Config)
    assert config.check() == [
        "on_error: redact cannot keep an event that it could not mask: dead_letter or drop",
        "rules: a: the pattern is not RE2: missing ): (",
    ]


def test_dead_letters_have_no_exemptions() -> None:
    """For a dead letter the stage masks exempt fields, too."""
    made = stage(exempt=["order"])
    assert made.apply(batch({"order": CARD})).records == [{"order": CARD}]
    assert made.mask({"order": CARD}) == {"order": "[REDACTED:card]"}
