"""Dead letters are masked, whatever they hold."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from mcp_ingest.engine import letters
from mcp_ingest.event import Origin, Record, Rejected

CARD = "4111 1111 1111 1111"


def _rejected(record: Any, reason: str = "why") -> Rejected:
    return Rejected("mcp", 1, record, 3, Origin("in", "A" * 20, 1), reason, "parse_json")


@pytest.mark.parametrize(
    "record",
    [
        {"message": f"card {CARD}"},
        {"deep": [{"k": {CARD: 1}}]},
        f"card {CARD}".encode(),
        CARD,
        [CARD],
        {"n": 4111111111111111},
    ],
)
def test_a_letter_is_masked(record: Any) -> None:
    """Neither a map, bytes, a text, a list nor a number shows the card."""
    letter = letters.of_the_way_in(_rejected(record, f"bad value {CARD}"), "p", None, 7)
    assert CARD.encode() not in letter.record
    assert b"4111111111111111" not in letter.record
    assert CARD not in letter.reason
    assert orjson.loads(letter.record)
    assert letter.form == ("record" if isinstance(record, dict) else "undecodable")
    assert (letter.input, letter.stage, letter.pipeline, letter.time) == ("in", "parse_json", "p", 7)
    assert letter.event_id == "A" * 20 + "AAAAAAAD"


def test_a_letter_s_tag_is_masked() -> None:
    """By the two packs and the rules of its pipeline, as its record is; where those fail nothing of it is kept."""
    rejected = _rejected({})
    rejected.tag = f"shop.{CARD}.internal"

    def mask(record: Record) -> Record:
        return {key: value.replace("internal", "***") for key, value in record.items()}

    assert letters.of_the_way_in(rejected, "p", None, 7).tag == "shop.[REDACTED:card].internal"
    assert letters.of_the_way_in(rejected, "p", mask, 7).tag == "shop.[REDACTED:card].***"
    assert letters.safe_tag("shop", lambda record: {"tag": 1}) == letters.WITHHELD


def test_the_pipeline_s_rules_are_applied_too() -> None:
    """A rule of the pipeline's own masks its letters."""

    def mask(record: Record) -> Record:
        return dict.fromkeys(record, "***")

    assert letters.safe_record({"a": "internal"}, mask) == (b'{"a":"***"}', "record")


def test_masking_that_fails_keeps_nothing() -> None:
    """If masking raises, only that it did and the record's length are kept."""

    def broken(record: Record) -> Record:
        raise ValueError(record)

    record, form = letters.safe_record({"a": "internal"}, broken)
    assert orjson.loads(record) == {"masking_failed": "ValueError", "length": 1}
    assert form == "withheld"


def test_a_line_of_the_spool_is_masked_once_more() -> None:
    """What was repaired or added after redaction cannot leak through an output's letter."""
    assert CARD.encode() not in letters.safe_line(orjson.dumps({"message": CARD})).record
