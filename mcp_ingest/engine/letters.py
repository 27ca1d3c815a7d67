"""Dead letters: masked by the packs `pci` and `secrets` and by all rules of their pipeline before they are kept.

If masking itself fails, only what says nothing is kept: where, when, why, how long.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

from mcp_ingest.codecs.values import clean
from mcp_ingest.event import Record, Rejected, id_suffixes
from mcp_ingest.masking import safe_text as safe_text  # who has letters has it, too
from mcp_ingest.masking import strict_masker
from mcp_ingest.spool.model import DeadLetter, Form

Mask = Callable[[Record], Record]

#: What stands in place of a tag that could not be masked.
WITHHELD = "[REDACTED:tag]"


def masked_tag(tag: str, mask: Mask) -> str:
    """The tag as these rules leave it; where they fail, `WITHHELD`."""
    try:
        masked = next(iter(mask({"tag": tag}).values()))  # a rule may take the name for a secret, too
    except Exception:  # fail closed
        return WITHHELD
    return masked if isinstance(masked, str) else WITHHELD


def safe_tag(tag: str, mask: Mask | None = None) -> str:
    """A tag, masked as a dead letter's record is."""
    text = safe_text(tag)
    return masked_tag(text, mask) if mask else text


class Kept(NamedTuple):
    """What is kept of a record: JSON, masked, and what it is."""

    record: bytes
    form: Form


def safe_record(record: Any, mask: Mask | None = None) -> Kept:
    """What was rejected, masked, as JSON: a map as it is, anything else under `undecodable`."""
    form: Form = "record" if isinstance(record, dict) else "undecodable"
    try:
        if isinstance(record, bytes):
            record = {"undecodable": record.decode("utf-8", "replace")}
        elif not isinstance(record, dict):
            record = {"undecodable": record}
        record = clean(record)[0]
        record = strict_masker().mask_record(record)[0]
        return Kept(orjson.dumps(mask(record) if mask else record), form)
    except Exception as error:  # fail closed
        return Kept(orjson.dumps({"masking_failed": type(error).__name__, "length": _length(record)}), "withheld")


def safe_line(line: bytes, mask: Mask | None = None) -> Kept:
    """A line of the spool, masked once more, without the exemptions that it was masked with."""
    return safe_record(orjson.loads(line), mask)


def of_the_way_in(rejected: Rejected, pipeline: str, mask: Mask | None, now: int) -> DeadLetter:
    """The letter of an event that left the chain; `mask` are the pipeline's own rules, `now` nanoseconds."""
    record, form = safe_record(rejected.record, mask)
    return DeadLetter(
        time=now,
        reason=safe_text(rejected.reason),
        kind=rejected.why,
        tag=safe_tag(rejected.tag, mask),
        record=record,
        event_id=rejected.origin.prefix + id_suffixes([rejected.position])[0],
        event_time=rejected.time,
        input=rejected.origin.input,
        pipeline=pipeline,
        stage=rejected.stage,
        form=form,
        received=rejected.origin.received,
    )


def _length(record: Any) -> int:
    try:
        return len(record)
    except TypeError:
        return 0
