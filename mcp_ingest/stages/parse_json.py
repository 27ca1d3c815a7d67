"""Takes a JSON object out of a text field and merges its keys into the record.

A text that is no object (it does not begin with `{`) passes untouched: plain lines and JSON lines come through the
same pipeline. Parsed keys win over those that are there; maps of both in `metadata` are put together. The text goes,
unless `keep_original` names a field for it. JSON as loggers really write it is understood: `NaN` and `Infinity`
(null), raw line breaks in strings, halves of surrogate pairs (U+FFFD). Of repeated keys the last one holds, integers
beyond 64 bits become floats. Broken JSON and what is nested deeper than 100 is an error: the event meets `on_error`,
unchanged.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import orjson
from msgspec import Meta

from mcp_ingest.component import Example, Stage, StageSettings, on_error
from mcp_ingest.context import Context
from mcp_ingest.errors import StageError
from mcp_ingest.event import Batch, Record

_DEEPEST = 100  # an output's serialiser and Elasticsearch each have a limit of their own, both above this one


class ParseJsonConfig(StageSettings):
    """Settings of `parse_json`."""

    field: Annotated[
        str | list[str], Meta(description="The field with the text; of several, each that holds an object.")
    ] = "message"
    into: Annotated[str | None, Meta(description="Put the parsed object under this one key instead of merging it.")] = (
        None
    )
    keep_original: Annotated[str | None, Meta(description="Keep the text in this field.")] = None
    plain_text: Annotated[
        Literal["pass", "error"], Meta(description="What becomes of a text that does not begin with `{`.")
    ] = "pass"


class ParseJson(Stage):
    """See the module."""

    Config = ParseJsonConfig
    EXAMPLES = (
        Example(
            "An object in the message becomes fields",
            {},
            given={"message": '{"log_level": "ERROR", "message": "no route", "status_code": 502}'},
            expected={"log_level": "ERROR", "message": "no route", "status_code": 502},
        ),
        Example("Plain text passes", {}, given={"message": "no route"}, expected={"message": "no route"}),
        Example(
            "Under a key of its own, with the text kept",
            {"into": "payload", "keep_original": "raw"},
            given={"message": '{"a": 1}', "tool": "search"},
            expected={"tool": "search", "payload": {"a": 1}, "raw": '{"a": 1}'},
        ),
        Example(
            "Broken JSON is an error",
            {},
            given={"message": '{"a": 1'},
            expected=[],
            failed=["message begins like a JSON object but is none"],
        ),
    )

    def __init__(self, config: ParseJsonConfig, context: Context) -> None:
        super().__init__(config, context)
        self._fields = (config.field,) if isinstance(config.field, str) else tuple(config.field)

    def apply(self, batch: Batch) -> Batch:
        """Parse where a text begins like an object; all else is a look at its first character."""
        errors: dict[int, BaseException] = {}
        plain_is_error = self.config.plain_text == "error"
        for field in self._fields:
            for index, record in enumerate(batch.records):
                text = record.get(field)
                if text.__class__ is not str or (text[:1] not in "{ \t\r\n" and not plain_is_error):
                    continue
                if index in errors:
                    continue
                try:
                    batch.records[index] = self._merged(record, field, text)
                except Exception as error:  # whatever the text brought it to, its neighbours go on
                    errors[index] = error
        return on_error(self, batch, errors)

    def _merged(self, record: Record, field: str, text: str) -> Record:
        if not text.lstrip().startswith("{"):
            if self.config.plain_text == "error":
                raise StageError(f"{field} is no JSON object")
            return record
        parsed = _object(text, field)
        rest = {key: value for key, value in record.items() if key != field}
        if self.config.keep_original is not None:
            rest[self.config.keep_original] = text
        if self.config.into is not None:
            return {**rest, self.config.into: parsed}
        if isinstance(old := rest.get("metadata"), dict) and isinstance(new := parsed.get("metadata"), dict):
            parsed["metadata"] = {**old, **new}
        return {**rest, **parsed}


def _object(text: str, field: str) -> dict[str, Any]:
    try:
        parsed = orjson.loads(text)
        _check_depth(parsed, text, field)
    except orjson.JSONDecodeError:
        parsed = _leniently(text, field)
    return parsed  # type: ignore[no-any-return]  # the text begins with a brace


def _leniently(text: str, field: str) -> Any:
    """What Python's own parser takes and orjson does not, as something that orjson takes again."""
    try:
        parsed = json.loads(text, strict=False, parse_constant=_null, parse_float=_finite)
        _check_depth(parsed, text, field)
        again = json.dumps(parsed, ensure_ascii=False)
        return orjson.loads(again.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))
    except RecursionError:
        raise StageError(_too_deep(field)) from None
    except ValueError as error:
        where = getattr(error, "pos", "?")
        raise StageError(f"{field} begins like a JSON object but is none (at character {where})") from None


def _null(_constant: str) -> None:
    return None


def _finite(digits: str) -> float | None:
    number = float(digits)
    return number if abs(number) != float("inf") else None


def _too_deep(field: str) -> str:
    return f"{field} holds JSON nested deeper than {_DEEPEST}"


def _check_depth(parsed: Any, text: str, field: str) -> None:
    """Walk level by level, and only where there are braces enough."""
    if text.count("{") + text.count("[") <= _DEEPEST:
        return
    level = [parsed]
    for _ in range(_DEEPEST):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise StageError(_too_deep(field))
