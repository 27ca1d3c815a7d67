"""Take events out: those for which a condition holds are counted as `filtered` and go no further.

They are neither lost nor dead letters: the ledger has them under `filtered` with this stage's rule. Put it behind
`normalize`, so that levels have one spelling. To thin out rather than to take out, use a sampling stage.

Guarantees: one pass over the batch; an event in which the condition's fields are missing stays.
Metrics: `mcp_ingest_input_events_total{term="filtered", reason=RULE}`.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from mcp_ingest.component import Example, Stage, StageSettings
from mcp_ingest.context import Context
from mcp_ingest.errors import ConfigError
from mcp_ingest.event import Batch, Term
from mcp_ingest.expression import compile_expression


class Drop(Stage):
    """Takes out the events for which `when` holds."""

    class Config(StageSettings, kw_only=True):
        """What is taken out."""

        when: Annotated[str, Meta(description="The condition, for example `log_level == 'DEBUG'`.")]
        rule: Annotated[str | None, Meta(description="What the ledger calls it; by default the stage's name.")] = None

        def check(self) -> list[str]:
            """The condition must compile."""
            try:
                compile_expression(self.when)
            except ConfigError as error:
                return [f"when: {problem}" for problem in error.problems]
            return []

    keeps_serialised = True
    EXAMPLES = (
        Example(
            "Debug messages are taken out",
            {"when": "log_level == 'DEBUG'"},
            given=[{"log_level": "DEBUG", "message": "a"}, {"log_level": "INFO", "message": "b"}, {"message": "c"}],
            expected=[{"log_level": "INFO", "message": "b"}, {"message": "c"}],
        ),
        Example(
            "Health checks that went well are taken out, under a name of their own",
            {"when": "operation == 'health' and status_code < 400", "rule": "health_checks"},
            given=[{"operation": "health", "status_code": 200}, {"operation": "health", "status_code": 503}],
            expected=[{"operation": "health", "status_code": 503}],
        ),
    )

    def __init__(self, config: Any, context: Context) -> None:
        super().__init__(config, context)
        self._when = compile_expression(config.when)
        self._rule = config.rule or context.name

    def apply(self, batch: Batch) -> Batch:
        """The batch without the events for which the condition holds."""
        gone = self._when.mask(batch.records, batch.tags, batch.times)
        if True not in gone:
            return batch
        return batch.keep([not drop for drop in gone], Term.FILTERED, self._rule)
