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
from collections.abc import Callable
from itertools import repeat
from operator import contains, itemgetter
from typing import Annotated, Any, Literal

import msgspec
import orjson
from msgspec import Meta

from mcp_ingest.component import Example, Stage, StageSettings, on_error
from mcp_ingest.context import Context
from mcp_ingest.errors import StageError
from mcp_ingest.event import Batch, Record

_FIRST: Callable[[Any], Any] = itemgetter(slice(0, 1))
_OPENINGS = frozenset("{ \t\r\n")
_MANY = 16  # records, from which on a look at the whole column pays
_DEEPEST = 100  # an output's serialiser and Elasticsearch each have a limit of their own, both above this one
_SHALLOW = 4


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
        for field in self._fields:
            if self.config.plain_text == "error" or len(batch) < _MANY or _may_open(batch.records, field):
                self._parse(batch.records, field, errors)
        return on_error(self, batch, errors)

    def _parse(self, records: list[Record], field: str, errors: dict[int, BaseException]) -> None:
        """Each text by itself: all of a batch as one text is slower, and a broken line could complete its neighbour."""
        plain_is_error = self.config.plain_text == "error"
        alone = self.config.keep_original is None and self.config.into is None
        for index, record in enumerate(records):
            text = record.get(field)
            if text.__class__ is not str or (text[:1] not in "{ \t\r\n" and not plain_is_error) or index in errors:
                continue
            parsed: dict[str, Any] | None
            try:
                parsed = _shallow(text)
            except ValueError:  # msgspec's errors, and half of a surrogate pair
                try:
                    parsed = self._carefully(text, field)
                except Exception as error:  # whatever the text brought it to, its neighbours go on
                    errors[index] = error
                    continue
            if parsed is None:
                continue
            if alone and len(record) == 1:  # as `tail` makes them: spares 0.9 µs
                records[index] = parsed
            else:
                records[index] = self._merged(record, field, text, parsed)

    def _carefully(self, text: str, field: str) -> dict[str, Any] | None:
        """The object that the quick way did not take; None where the text may stay as it is."""
        if text.lstrip().startswith("{"):
            return _object(text, field)
        if self.config.plain_text == "error":
            raise StageError(f"{field} is no JSON object")
        return None

    def _merged(self, record: Record, field: str, text: str, parsed: dict[str, Any]) -> Record:
        """Both together, made of the one that has more fields: copying thirteen costs 1.2 µs."""
        del record[field]
        if self.config.keep_original is not None:
            record[self.config.keep_original] = text
        if self.config.into is not None:
            record[self.config.into] = parsed
            return record
        if isinstance(old := record.get("metadata"), dict) and isinstance(new := parsed.get("metadata"), dict):
            parsed["metadata"] = {**old, **new}
        if len(record) >= len(parsed):
            record.update(parsed)
            return record
        for key, value in record.items():
            parsed.setdefault(key, value)
        return parsed


def _may_open(records: list[Record], field: str) -> bool:
    """Whether a text there may begin like an object; for a batch that has none, half of what the loop costs."""
    try:
        return not _OPENINGS.isdisjoint(map(_FIRST, map(itemgetter(field), records)))
    except KeyError:
        return any(map(contains, records, repeat(field)))
    except TypeError:  # there is something else than texts
        return True


def _shallow_decoder() -> Callable[[str], dict[str, Any]]:
    """For JSON as nearly all loggers write it: at most `_SHALLOW` levels below the object, integers of 64 bits.

    It proves by its type what would else have to be looked for in each text, so that it takes 2.5 µs a line of 470
    bytes where orjson and a search for nesting take 3.2. It raises where orjson would not or would answer something
    else; then the careful way decides.
    """
    scalar = str | Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | float | bool | None
    value: Any = scalar
    for _ in range(_SHALLOW):
        value = scalar | dict[str, value] | list[value]
    return msgspec.json.Decoder(dict[str, value]).decode


_shallow = _shallow_decoder()


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
