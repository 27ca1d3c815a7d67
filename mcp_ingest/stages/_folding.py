"""Foreign names to flat ones: which there are, and the walk that moves their values. For `normalize`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from mcp_ingest.codecs.names import ECS_NAMES, ELASTICSEARCH_OWN
from mcp_ingest.event import Record
from mcp_ingest.stages._record import metadata_of, set_aside

_SCHEMAS: dict[str, str] = {
    **ECS_NAMES,
    "event.duration": "duration_ms",  # ECS counts nanoseconds: no alias, but the same thing
    "http.status_code": "status_code",  # OpenTelemetry before 1.23
    "enduser.id": "user_id",
    "service.environment": "metadata.environment",
    "deployment.environment": "metadata.environment",
    "deployment.environment.name": "metadata.environment",
    "cloud.region": "metadata.region",
    "host.name": "metadata.host",
}
_ROOTS = ("", "attributes.", "resource.", "resource.attributes.")

#: Path of a value, nested or dotted -> flat field, or field of `metadata`.
FOLDED: dict[str, str] = {root + name: flat for root in _ROOTS for name, flat in _SCHEMAS.items()} | {
    "host": "metadata.host",  # a string here would take the place of `host.name`
    "hostname": "metadata.host",
    "sys_host": "metadata.host",  # fluent-logger's FluentRecordFormatter
}

#: Name at the root -> flat field, where that is missing; only for values that are no map or list.
ALIASES: dict[str, str] = {
    "msg": "message",
    "log": "message",  # Docker
    "body": "message",  # OpenTelemetry
    "event": "message",  # structlog
    "short_message": "message",  # GELF
    "MESSAGE": "message",  # journald
    "service": "service_name",
    "serviceName": "service_name",
    "sys_name": "service_name",  # fluent-logger
    "serviceVersion": "service_version",
    "requestId": "request_id",
    "request-id": "request_id",
    "req_id": "request_id",
    "x-request-id": "request_id",
    "X-Request-ID": "request_id",
    "userId": "user_id",
    "durationMs": "duration_ms",
    "statusCode": "status_code",
}

#: Values with values in them.
CONTAINERS = (dict, list)

_NUMBERS = (int, float)
_ALIAS_NAMES = frozenset(ALIASES)
_UNNAMED = "unnamed"


class _Moved(NamedTuple):
    target: str
    value: Any
    name: str


class Folding:
    """The names that are folded: the schemas' own and the settings' `rename`."""

    def __init__(self, rename: Mapping[str, str]) -> None:
        self.targets = FOLDED | dict(rename)
        self.prefixes = frozenset(
            name[:dot] for name in self.targets for dot, letter in enumerate(name) if letter == "."
        )

    def suspicious(self, key: str, shape: frozenset[str]) -> bool:
        """Whether a record with this key at its root has to be looked at, whatever the value is."""
        return (
            key in self.targets
            or key in ELASTICSEARCH_OWN
            or not key.strip()
            or key.startswith("metadata.")
            or ALIASES.get(key, key) not in shape
        )

    def fold(self, record: Record) -> Record:
        """A new record in which each value has its flat name; what has no place goes to `metadata`."""
        moved: list[_Moved] = []
        folded: Record = {}
        for key, value in record.items():
            if key == "metadata" and key not in self.prefixes:
                folded[key] = value
            elif isinstance(value, CONTAINERS):
                inner = self._walk(key, value, moved)
                if inner is not None:
                    self._keep(folded, key, inner, moved)
            elif key in self.targets:
                moved.append(_Moved(self.targets[key], value, key))
            else:
                self._keep(folded, key, value, moved)
        metadata = dict(metadata_of(folded)) if "metadata" in folded else {}
        for move in moved:
            _place(folded, metadata, move)
        if metadata or "metadata" in folded:
            folded["metadata"] = metadata
        if not _ALIAS_NAMES.isdisjoint(folded):
            for alias, flat in ALIASES.items():
                _rename_alias(folded, alias, flat)
        return folded

    def _keep(self, folded: Record, key: str, value: Any, moved: list[_Moved]) -> None:
        if key in ELASTICSEARCH_OWN or key.startswith("metadata."):
            moved.append(_Moved("metadata." + (key.removeprefix("metadata.") or _UNNAMED), value, key))
        elif key.strip():
            folded[key] = value
        else:
            set_aside(folded, _UNNAMED, value)

    def _walk(self, path: str, value: Any, moved: list[_Moved]) -> Any:
        """The map or list without what was folded, keys all named; None if nothing is left."""
        if path in self.prefixes and isinstance(value, dict):
            return self._walk_map(path, value, moved)
        if path in self.targets:
            moved.append(_Moved(self.targets[path], _named(value), path))
            return None
        if path in self.prefixes and any(isinstance(item, dict) for item in value):
            moved.append(_Moved(f"metadata.{path}", _named(value), path))  # a list of maps is no one's name
            return None
        return _named(value)

    def _walk_map(self, path: str, value: dict[str, Any], moved: list[_Moved]) -> Any:
        rest: dict[str, Any] = {}
        for key, inner in value.items():
            name = f"{path}.{key}"
            if isinstance(inner, CONTAINERS):
                inner = self._walk(name, inner, moved)
                if inner is None:
                    continue
            elif name in self.targets:
                moved.append(_Moved(self.targets[name], inner, name))
                continue
            set_aside(rest, key if key.strip() else _UNNAMED, inner)
        return rest if rest or not value else None


def all_named(value: Any) -> bool:
    """Whether no key in this map or list is blank, at any depth."""
    if isinstance(value, dict):
        return all(key.strip() and all_named(inner) for key, inner in value.items())
    return not isinstance(value, list) or all(map(all_named, value))


def _named(value: Any) -> Any:
    """The same with a name for every key: Elasticsearch refuses a blank one at any depth."""
    if isinstance(value, dict):
        named: dict[str, Any] = {}
        for key, inner in value.items():
            set_aside(named, key if key.strip() else _UNNAMED, _named(inner))
        return named
    if isinstance(value, list):
        return [_named(item) for item in value]
    return value


def _place(folded: Record, metadata: dict[str, Any], move: _Moved) -> None:
    target, value, name = move
    if value is None:
        return None
    if name.endswith("event.duration"):
        if isinstance(value, bool) or not isinstance(value, _NUMBERS):
            return set_aside(metadata, name, value)
        value = value / 1_000_000
    place = metadata if target.startswith("metadata.") else folded
    target = target.removeprefix("metadata.")
    if place.get(target) is None:
        place[target] = value
    elif place[target] != value:
        set_aside(metadata, name, value)
    return None


def _rename_alias(folded: Record, alias: str, flat: str) -> None:
    value = folded.get(alias)
    if value is None or isinstance(value, CONTAINERS) or folded.get(flat) is not None:
        return
    del folded[alias]
    folded[flat] = value.rstrip("\r\n") if flat == "message" and isinstance(value, str) else value
