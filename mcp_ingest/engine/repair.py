"""The one repair of a refused event: the field that the peer stumbled over moves to `conflict.*`, as text."""

from __future__ import annotations

from typing import Any

import orjson


def move_aside(line: bytes, field: str) -> bytes | None:
    """The line with `field` (a key or a dotted path) moved to `conflict.FIELD`; None if the line has no such field.

    The value is kept as a string of JSON, which every mapping of `conflict.*` takes.
    """
    record = orjson.loads(line)
    found = _take(record, field)
    if found is _ABSENT:
        return None
    value = found if isinstance(found, str) else orjson.dumps(found).decode()
    record[f"conflict.{field}"] = value
    return orjson.dumps(record)


_ABSENT = object()


def _take(record: dict[str, Any], field: str) -> Any:
    """Remove the field, its nearest enclosing map's key for a nested one, and return its value."""
    if field in record:
        return record.pop(field)
    for end in range(len(field) - 1, 0, -1):
        head, rest = field[:end], field[end + 1 :]
        if field[end] == "." and isinstance(record.get(head), dict):
            return _take(record[head], rest)
        if field[end] == "." and head in record:
            return record.pop(head)
    return _ABSENT
