"""Holds events to the platform's flat schema; what is missing is filled in or flagged, never lost.

- Required: `timestamp, service_name, log_level, message`, or what `required` names. What is missing is filled from
  `defaults` (the time: the protocol's, else that of receipt); without a default it is only flagged.
- Types of the schema's fields: numbers in texts become numbers, numbers where a text belongs become texts, a map as
  `message` becomes its JSON. What cannot be put right moves to `metadata.invalid.NAME`, so that no field ever has two
  types in an index. How a time in a text is written is the business of `normalize`.
- What had to be filled in, moved or missed is noted in `pipeline_warnings` and counted.

An event in good shape is looked at and left alone. Metric: `mcp_ingest_flagged_fields_total`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
import orjson
from msgspec import Meta

from mcp_ingest.codecs.names import FLAT_FIELDS, LOG_LEVELS, REQUIRED_FIELDS
from mcp_ingest.codecs.timestamps import parse, render
from mcp_ingest.codecs.values import clean_value
from mcp_ingest.component import Example, Stage, StageSettings, on_error
from mcp_ingest.context import Context
from mcp_ingest.event import Batch, Record
from mcp_ingest.metrics import FLAGGED_FIELDS
from mcp_ingest.stages._record import metadata_of, warn

_LEVELS = frozenset(LOG_LEVELS)
_NUMBERS = (int, float)
_DEFAULTS = {"service_name": "unknown", "log_level": "INFO", "message": ""}

_KINDS: dict[str, Any] = {"time": str, "keyword": str, "text": str, "number": int | float, "integer": int}
_PARTS = 16  # into which records are divided to find those that have to be put right


class ValidateConfig(StageSettings):
    """Settings of `validate`."""

    schema: Annotated[Literal["mcp-log"], Meta(description="The schema: the platform's flat one.")] = "mcp-log"
    required: Annotated[list[str], Meta(description="Fields that must be there.")] = msgspec.field(
        default_factory=lambda: list(REQUIRED_FIELDS)
    )
    defaults: Annotated[
        dict[str, str | int | float | bool], Meta(description="What stands for a required field that is missing.")
    ] = msgspec.field(default_factory=dict)

    def check(self) -> list[str]:
        """Defaults of fields that are not required, and levels that are none."""
        problems = [
            f"defaults: {name} is not among `required`" for name in sorted(self.defaults) if name not in self.required
        ]
        if self.defaults.get("log_level", "INFO") not in _LEVELS:
            problems.append(f"defaults: log_level must be one of {', '.join(LOG_LEVELS)}")
        return problems


class Validate(Stage):
    """See the module."""

    Config = ValidateConfig
    keeps_serialised = True
    EXAMPLES = (
        Example(
            "What is missing is filled in and flagged",
            {"schema": "mcp-log"},
            given={"timestamp": "2026-11-22T15:04:05.123Z", "message": "no route"},
            expected={
                "timestamp": "2026-11-22T15:04:05.123Z",
                "service_name": "unknown",
                "log_level": "INFO",
                "message": "no route",
                "pipeline_warnings": ["service_name is missing", "log_level is missing"],
            },
        ),
        Example(
            "Types are put right; what cannot be moves aside",
            {},
            given={
                "timestamp": "2026-11-22T15:04:05.123Z",
                "service_name": "model-router",
                "log_level": "ERROR",
                "message": {"error": "no route"},
                "status_code": "502",
                "duration_ms": "slow",
                "user_id": 7,
            },
            expected={
                "timestamp": "2026-11-22T15:04:05.123Z",
                "service_name": "model-router",
                "log_level": "ERROR",
                "message": '{"error":"no route"}',
                "status_code": 502,
                "user_id": "7",
                "metadata": {"invalid": {"duration_ms": "slow"}},
                "pipeline_warnings": ["duration_ms is not a number"],
            },
        ),
    )

    def __init__(self, config: ValidateConfig, context: Context) -> None:
        super().__init__(config, context)
        self._required = frozenset(config.required)
        self._defaults = {**_DEFAULTS, **config.defaults}
        self._fields = tuple(dict.fromkeys((*FLAT_FIELDS, *config.required)))
        self._others = tuple(name for name in config.required if name not in FLAT_FIELDS)
        self._schema = _schema(self._required)
        self._maps = frozenset((dict,) if "metadata" in self._required else (dict, type(None)))

    def apply(self, batch: Batch) -> Batch:
        """Look at each record; put those right that are not as they should be."""
        unusual = self._unusual(batch.records)
        errors: dict[int, BaseException] = {}
        flags: Counter[str] = Counter()
        for index in unusual:
            try:
                time = batch.times[index]
                fallback = time if 0 < time < 2**63 else batch.origin(index).received
                record, flagged = self._put_right(batch.records[index], fallback)
                batch.records[index] = record
                if batch.serialised is not None:
                    batch.serialised[index] = b""
                flags.update(flagged)
            except Exception as error:  # whatever the event brought it to, its neighbours go on
                errors[index] = error
        if flags:
            batch.outcome.effects.append(lambda: self._count(flags))
        return on_error(self, batch, errors)

    def _unusual(self, records: list[Record], first: int = 0) -> list[int]:
        """Which records have to be put right: all are looked at together, smaller parts where that finds one."""
        if self._fine(records):
            return []
        if len(records) == 1:
            return [first]
        size = -(-len(records) // _PARTS)
        starts = range(0, len(records), size)
        return [index for start in starts for index in self._unusual(records[start : start + size], first + start)]

    def _fine(self, records: list[Record]) -> bool:
        """Whether all can stay as they are: msgspec's conversion, 0.3 µs an event, says so; its result is not used."""
        try:
            msgspec.convert({"records": records}, self._schema)
        except (msgspec.ValidationError, UnicodeError):  # the latter for half of a surrogate pair as a key
            return False
        return self._maps.issuperset(map(type, [record.get("metadata") for record in records])) and not any(
            None in [record.get(name) for record in records] for name in self._others
        )

    def _put_right(self, record: Record, fallback: int) -> tuple[Record, list[str]]:
        right: Record = dict(record)
        invalid: dict[str, Any] = {}
        flagged: list[str] = []
        for name in self._fields:
            value = right.get(name)
            if value is None or (value == "" and name in self._required and name != "message"):
                if name in self._required:
                    self._fill(right, name, fallback)
                    flagged.append(f"{name} is missing")
                continue
            kind = "level" if name == "log_level" else FLAT_FIELDS.get(name, "any")
            good = _CONVERT[kind](value)
            if good is not None:
                right[name] = good
                continue
            invalid[name] = right.pop(name)
            flagged.append(f"{name} is not {_WORDS[kind]}")
            if name in self._required:
                self._fill(right, name, fallback)
        if invalid:
            _keep_invalid(right, invalid)
        for text in flagged:
            warn(right, text)
        return right, [text.partition(" ")[0] for text in flagged]

    def _fill(self, record: Record, name: str, fallback: int) -> None:
        if name == "timestamp":
            record[name] = render(fallback)
        elif name in self._defaults:
            record[name] = self._defaults[name]

    def _count(self, flags: Counter[str]) -> None:
        for name, count in flags.items():
            self.context.metrics.counter(FLAGGED_FIELDS, stage=self.context.name, field=name).inc(count)


def _schema(required: frozenset[str]) -> Any:
    """`{"records": [...]}` in good shape, as a type for msgspec; maps are left out, since it would build each anew."""
    fields: list[Any] = []
    for name, kind in FLAT_FIELDS.items():
        if name == "log_level":
            fields.append((name, Literal[LOG_LEVELS], msgspec.NODEFAULT if name in required else "INFO"))
        elif kind in _KINDS:
            good = Annotated[str, Meta(min_length=1)] if name == "service_name" else _KINDS[kind]
            fields.append((name, good) if name in required else (name, good | None, None))
    record = msgspec.defstruct("_Record", fields, kw_only=True, gc=False)
    # a struct around the list: of a bare `list[…]` msgspec works out the type at every call, for 10 µs
    return msgspec.defstruct("_Records", [("records", list[record])])  # type: ignore[valid-type]


def _keep_invalid(record: Record, invalid: dict[str, Any]) -> None:
    metadata = dict(metadata_of(record))
    before = metadata.get("invalid", {})
    metadata["invalid"] = {**(before if isinstance(before, dict) else {"value": before}), **invalid}
    record["metadata"] = metadata


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, _NUMBERS) else None


def _message(value: Any) -> str | None:
    if not isinstance(value, (dict, list)):
        return _text(value)
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # what an input cleans away and a stage can bring back: integers beyond 64 bits
        return orjson.dumps(clean_value(value)[0]).decode()


def _level(value: Any) -> str | None:
    return value if isinstance(value, str) and value in _LEVELS else None


def _time(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    nanoseconds = parse(value)
    return None if nanoseconds is None else render(nanoseconds)


def _number(value: Any) -> int | float | None:
    if isinstance(value, str):
        value = _number_of_text(value)
    if isinstance(value, bool) or not isinstance(value, _NUMBERS):
        return None
    return value if math.isfinite(value) else None


def _number_of_text(text: str) -> int | float | None:
    if len(text) > 32 or "_" in text:
        return None
    try:
        return int(text) if text.strip().isdigit() else float(text)
    except ValueError:
        return None


def _integer(value: Any) -> int | None:
    number = _number(value)
    return int(number) if number is not None and number == int(number) and abs(number) < 2**63 else None


def _map(value: Any) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else {"value": value}


_CONVERT: dict[str, Callable[[Any], Any]] = {
    "time": _time,
    "keyword": _text,
    "text": _message,
    "level": _level,
    "number": _number,
    "integer": _integer,
    "map": _map,
    "any": lambda value: value,
}
_WORDS = {
    "time": "a time",
    "keyword": "a text",
    "text": "a text",
    "level": "a level",
    "number": "a number",
    "integer": "an integer",
}
