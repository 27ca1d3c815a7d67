"""Brings records of other schemas to the platform's flat one, and to what Elasticsearch takes.

- Names: those of ECS and OpenTelemetry, dotted (`service.name`) or nested, become the flat ones; `log`, `msg`, `body`
  become `message` where there is none; `rename` adds your own. If the flat field says something else already, it
  stays, and the other value is kept in `metadata` under its own name.
- `timestamp` becomes ISO 8601 in UTC with up to nine digits of fraction; where it is missing, `@timestamp`, `time`,
  `ts` … serve, else the protocol's time, else the time of receipt. A time without a zone is in `timezone`. What is no
  time is kept as `metadata.timestamp_original`, noted in `pipeline_warnings` and counted.
- `log_level` becomes DEBUG, INFO, WARNING, ERROR or CRITICAL: from words and from the numbers of Python, syslog, pino,
  OpenTelemetry and Google Cloud. A word that nobody knows stays (`validate` flags it).
- `host` is never a string (it moves to `metadata.host`), `metadata` always a map, no key is blank, and names that
  Elasticsearch keeps for itself (`_id`, `_source`, …) move to `metadata`.

Nothing is lost, no event is refused. A record in good shape is looked at and left alone.
Metric: `mcp_ingest_unusable_timestamps_total`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, tzinfo
from operator import itemgetter
from typing import Annotated
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

from mcp_ingest.codecs.names import ECS_NAMES, ELASTICSEARCH_OWN, FLAT_FIELDS, LOG_LEVELS
from mcp_ingest.codecs.timestamps import are_canonical, is_canonical, parse, render
from mcp_ingest.component import Example, Stage, StageSettings, on_error
from mcp_ingest.context import Context
from mcp_ingest.event import Batch, Record
from mcp_ingest.metrics import UNUSABLE_TIMESTAMPS
from mcp_ingest.stages._folding import CONTAINERS, Folding, all_named
from mcp_ingest.stages._levels import LEVEL_FIELDS, level_of
from mcp_ingest.stages._record import Shapes, metadata_of, set_aside, warn

_LEVELS = frozenset(LOG_LEVELS)
_TIME_FIELDS = ("@timestamp", "time", "ts", "asctime", "datetime", "eventTime", "__REALTIME_TIMESTAMP")
_LEVEL, _TIME = itemgetter("log_level"), itemgetter("timestamp")
_MAP, _SCALARS = frozenset((dict,)), frozenset((str, int, float, bool, type(None)))
_MANY = 16  # records, from which on looking at columns is cheaper
_NO_METADATA: dict[str, object] = {}


class NormalizeConfig(StageSettings):
    """Settings of `normalize`."""

    rename: Annotated[
        dict[str, str],
        Meta(description="Further names, dotted for nested ones, and what they become: a field or `metadata.NAME`."),
    ] = msgspec.field(default_factory=dict)
    timezone: Annotated[
        str, Meta(description="The zone of times that name none, as in the tz database: `Europe/Berlin`.")
    ] = "UTC"

    def check(self) -> list[str]:
        """A zone that nobody knows; new names that Elasticsearch would refuse."""
        problems = []
        try:
            _zone(self.timezone)
        except (ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError, made a ValueError by `_zone`
            problems.append(f"timezone: {self.timezone!r} is not in the tz database")
        for old, new in self.rename.items():
            if not old.strip() or not new.strip() or old == new:
                problems.append(f"rename: {old!r} cannot become {new!r}")
            elif new in ELASTICSEARCH_OWN or new in ECS_NAMES:
                problems.append(f"rename: {new!r} is a name that Elasticsearch refuses")
        return problems


class Normalize(Stage):
    """See the module."""

    Config = NormalizeConfig
    keeps_serialised = True
    EXAMPLES = (
        Example(
            "ECS, dotted and nested",
            {},
            given={
                "@timestamp": "2026-11-22T16:04:05.123+01:00",
                "log.level": "warn",
                "service": {"name": "model-router", "version": "1.2.3"},
                "event": {"duration": 12500000},
                "message": "slow",
            },
            expected={
                "timestamp": "2026-11-22T15:04:05.123Z",
                "log_level": "WARNING",
                "service_name": "model-router",
                "service_version": "1.2.3",
                "duration_ms": 12.5,
                "message": "slow",
            },
        ),
        Example(
            "Docker",
            {},
            given={"log": "started\n", "time": "2026-11-22T15:04:05.123456789Z", "level": 30},
            expected={"timestamp": "2026-11-22T15:04:05.123456789Z", "message": "started", "log_level": "INFO"},
        ),
        Example(
            "Times without a zone, and a name of your own",
            {"timezone": "Europe/Berlin", "rename": {"tool": "operation"}},
            given={"timestamp": "2026-11-22 16:04:05,123", "log_level": "FATAL", "tool": "search"},
            expected={
                "timestamp": "2026-11-22T15:04:05.123Z",
                "log_level": "CRITICAL",
                "operation": "search",
            },
        ),
        Example(
            "What is no time is kept, and the protocol's serves",
            {},
            given={"timestamp": "yesterday", "log_level": "INFO", "host": "node-1", "_id": 7},
            expected={
                "timestamp": "2026-11-22T15:04:05.000Z",
                "log_level": "INFO",
                "metadata": {"host": "node-1", "_id": 7, "timestamp_original": "yesterday"},
                "pipeline_warnings": ["timestamp is not a time"],
            },
            time=1_795_359_845_000_000_000,
        ),
    )

    def __init__(self, config: NormalizeConfig, context: Context) -> None:
        super().__init__(config, context)
        self._zone = _zone(config.timezone)
        self._folding = Folding(config.rename)
        self._known = FLAT_FIELDS.keys() - self._folding.prefixes - self._folding.targets.keys()
        self._shapes = Shapes(self._judge)

    def apply(self, batch: Batch) -> Batch:
        """Look at each record; rebuild the ones that are not as they should be."""
        unusual = self._unusual(batch.records)
        errors: dict[int, BaseException] = {}
        unusable = 0
        for index in unusual:
            try:
                record = self._folding.fold(batch.records[index])
                _set_level(record)
                unusable += self._set_time(record, _fallback(batch, index))
                batch.records[index] = record
                if batch.serialised is not None:
                    batch.serialised[index] = b""
            except Exception as error:  # whatever the event brought it to, its neighbours go on
                errors[index] = error
        if unusable:
            counter = self.context.metrics.counter(UNUSABLE_TIMESTAMPS, stage=self.context.name)
            batch.outcome.effects.append(lambda: counter.inc(unusable))
        return on_error(self, batch, errors)

    def _judge(self, shape: tuple[str, ...]) -> tuple[str, ...] | None:
        """For records with these keys: None if they need work, else the fields that do if a map or list is there."""
        keys = frozenset(shape)
        if "timestamp" not in keys or "log_level" not in keys:
            return None
        if "@timestamp" in keys or any(self._folding.suspicious(key, keys) for key in shape):
            return None
        return tuple(key for key in shape if key not in FLAT_FIELDS or key in self._folding.prefixes)

    def _unusual(self, records: list[Record]) -> Sequence[int]:
        """Which records need work."""
        if len(records) >= _MANY and self._all_fine(records):
            return ()
        return [index for index, record in enumerate(records) if not self._fine(record)]

    def _all_fine(self, records: list[Record]) -> bool:
        """Whether all can stay as they are; no means that some may not.

        By columns, within C, it costs an event 0.4 µs where a look at each record costs 0.9.
        """
        others = set[str]().union(*records) - self._known
        try:
            return (
                not any(name == "@timestamp" or self._folding.suspicious(name, frozenset((name,))) for name in others)
                and _LEVELS.issuperset(map(_LEVEL, records))
                and are_canonical(list(map(_TIME, records)))
                and _MAP.issuperset(map(type, [record.get("metadata", _NO_METADATA) for record in records]))
                and all(_SCALARS.issuperset(map(type, [record.get(name) for record in records])) for name in others)
            )
        except (KeyError, TypeError):  # one is missing, a level is a map, a time a number
            return False

    def _fine(self, record: Record) -> bool:
        try:
            fields = self._shapes[tuple(record)]
            return (
                fields is not None
                and record["log_level"] in _LEVELS
                and is_canonical(record["timestamp"])
                and record.get("metadata", _NO_METADATA).__class__ is dict
                and not self._hidden(record, fields)
            )
        except TypeError:
            return False

    def _hidden(self, record: Record, fields: tuple[str, ...]) -> bool:
        """Whether a map or list in one of these fields holds names that need work."""
        for field in fields:
            value = record[field]
            if isinstance(value, CONTAINERS) and (field in self._folding.prefixes or not all_named(value)):
                return True
        return False

    def _set_time(self, record: Record, fallback: int) -> bool:
        """Give the record a good `timestamp`; true if what it said there is no time."""
        original = record.get("timestamp")
        for field in ("timestamp", *_TIME_FIELDS):
            time = parse(record.get(field), self._zone)
            if time is not None:
                break
        else:
            field, time = "", fallback
        if not (isinstance(original, str) and is_canonical(original)):
            record["timestamp"] = render(time)
        if field not in ("", "timestamp"):
            del record[field]
        if parse(record.get("@timestamp"), self._zone) == time:
            del record["@timestamp"]  # every line gets its own
        elif "@timestamp" in record:
            set_aside(metadata_of(record), "@timestamp", record.pop("@timestamp"))
        unusable = field != "timestamp" and original not in (None, "")
        if unusable:
            set_aside(metadata_of(record), "timestamp_original", original)
            warn(record, "timestamp is not a time")
        return unusable


def _fallback(batch: Batch, index: int) -> int:
    time = batch.times[index]
    return time if 0 < time < 2**63 else batch.origin(index).received


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(str(error)) from error


def _set_level(record: Record) -> None:
    value = record.get("log_level")
    if value is not None:
        record["log_level"] = level_of(value, "log_level") or value
        return
    for field in LEVEL_FIELDS:
        level = level_of(record.get(field), field)
        if level is not None:
            record["log_level"] = level
            del record[field]
            return
