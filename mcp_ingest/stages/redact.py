"""Mask what must not be stored: card numbers, passwords, tokens, keys, e-mail addresses, and what you add.

It looks at every string, number and key of a record, at every depth. The pack `pci` finds card numbers (an issuer's
prefix, its length and Luhn's check digit; spaces or dashes between groups; as text or number) and card codes. The
pack `secrets` finds values of fields that are named like secrets (`password`, `token`, `api_key`, …), the same in
texts (`password=…`, `"token": "…"`), bearer and basic credentials, passwords in URLs, API keys that one knows by their
look, JSON Web Tokens, private keys and e-mail addresses. A number that is masked becomes a text.

Put it behind the stages that take texts apart, so that it sees their fields. It does not see through encodings
(base64, URL escapes, compression), and a 16-digit number that passes Luhn by chance is masked, too: exempt its field.
Words like "token: expired" in a message lose the second word.

Guarantees: what it cannot look into becomes a dead letter, never stored as it is; dead letters are masked by the same
rules without exemptions. Cost: one search of the serialised batch, whose JSON is kept for the outputs; only events in
which something was found are looked at closely. A rule of your own with an anchor (`^`, `$`) makes it look at every
event closely.
Metrics: `mcp_ingest_redactions_total{stage, rule}`, counted after the commit.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from mcp_ingest.component import Example, Settings, Stage, StageSettings, on_error
from mcp_ingest.context import Context
from mcp_ingest.errors import ConfigError
from mcp_ingest.event import Batch, Record
from mcp_ingest.masking import Masker
from mcp_ingest.metrics import REDACTIONS


class _Rule(Settings):
    """A rule of the user's own."""

    name: Annotated[str, Meta(description="Its name: small letters, digits, underscores; a label of the metric.")]
    pattern: Annotated[str, Meta(description="What to find, in RE2 syntax.")]
    replacement: Annotated[
        str | None, Meta(description=r"What to put there; `\1` is the first group; by default `[REDACTED:name]`.")
    ] = None


class Redact(Stage):
    """Masks what the packs and the rules find."""

    class Config(StageSettings):
        """What is masked and what is not."""

        packs: Annotated[
            list[Literal["pci", "secrets"]], Meta(description="Which sets of rules: `pci`, `secrets`.")
        ] = msgspec.field(default_factory=lambda: ["pci", "secrets"])
        rules: Annotated[list[_Rule], Meta(description="Rules of your own, tried before the packs.")] = msgspec.field(
            default_factory=list
        )
        exempt: Annotated[
            list[str],
            Meta(description="Fields that are left as they are: names (at any depth) or dotted paths."),
        ] = msgspec.field(default_factory=list)
        keep_last_four: Annotated[bool, Meta(description="Leave the last four digits of a card number.")] = False

        def check(self) -> list[str]:
            """The rules must compile, and nothing may pass unmasked."""
            problems = []
            if self.on_error == "keep":
                problems.append("on_error: redact cannot keep an event that it could not mask: dead_letter or drop")
            try:
                _masker(self)
            except ConfigError as error:
                problems += error.problems
            return problems

    keeps_serialised = True
    EXAMPLES = (
        Example(
            "Secrets in texts, in fields named like secrets, in numbers and keys, at every depth",
            {},
            given={
                "message": "login of alice@example.com with password=hunter2",
                "password": "hunter2",
                "metadata": {"card": 4111111111111111, "headers": ["Authorization: Bearer abc123def"]},
                "user_id": "u-1",
            },
            expected={
                "message": "login of [REDACTED:email] with password=[REDACTED:secret]",
                "password": "[REDACTED:secret]",
                "metadata": {"card": "[REDACTED:card]", "headers": ["Authorization: [REDACTED:secret]"]},
                "user_id": "u-1",
            },
        ),
        Example(
            "A rule of one's own, a field that is exempt, the last four digits kept",
            {
                "packs": ["pci"],
                "rules": [{"name": "employee", "pattern": r"\b(E)-\d{6}\b", "replacement": r"\1-******"}],
                "exempt": ["order_number"],
                "keep_last_four": True,
            },
            given={"message": "E-123456 paid with 4111 1111 1111 1111", "order_number": 4111111111111111},
            expected={"message": "E-****** paid with [REDACTED:card:1111]", "order_number": 4111111111111111},
        ),
    )

    def __init__(self, config: Any, context: Context) -> None:
        super().__init__(config, context)
        self._masker = _masker(config)
        self._strict = _masker(config, exempt=False)

    def apply(self, batch: Batch) -> Batch:
        """The batch with what was found masked; events that cannot be looked into meet `on_error`."""
        masked = self._masker.mask_records(batch.records)
        batch.serialised = masked.lines
        for index, record in masked.records.items():
            batch.records[index] = record
        if masked.counts:
            batch.outcome.effects.append(partial(self._count, masked.counts))
        return on_error(self, batch, dict(masked.errors))

    def mask(self, record: Record) -> Record:
        """The record with what was found masked, exempt fields too."""
        return self._strict.mask_record(record)[0]

    def _count(self, counts: dict[str, int]) -> None:
        for rule, count in counts.items():
            self.context.metrics.counter(REDACTIONS, stage=self.context.name, rule=rule).inc(count)


def _masker(config: Any, exempt: bool = True) -> Masker:
    rules = [(rule.name, rule.pattern, rule.replacement) for rule in config.rules]
    return Masker(config.packs, rules, config.exempt if exempt else (), config.keep_last_four)
