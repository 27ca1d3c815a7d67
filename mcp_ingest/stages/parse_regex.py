"""Takes fields out of a text with a regular expression (RE2: no input can make it slow).

The named groups of the first pattern that fits become fields; a group that took no part sets none. They win over
fields that are there. The text goes unless a group has its name. `unless_fields` leaves events alone that have these
fields already: structured ones whose message just looks like a line. `\\d`, `\\w` and `\\s` are ASCII. The whole text
must fit: write `.*` where anything may follow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
import re2
from msgspec import Meta

from mcp_ingest.component import Example, Stage, StageSettings, on_error
from mcp_ingest.context import Context
from mcp_ingest.errors import StageError
from mcp_ingest.event import Batch, Record

Group = tuple[int, str, Callable[[str], Any]]


class ParseRegexConfig(StageSettings):
    """Settings of `parse_regex`."""

    field: Annotated[str | list[str], Meta(description="The field with the text; of several, the first that fits.")] = (
        "message"
    )
    pattern: Annotated[str | None, Meta(description="An RE2 expression with named groups, `(?P<name>…)`.")] = None
    patterns: Annotated[list[str], Meta(description="Several of them; the first that fits is taken.")] = msgspec.field(
        default_factory=list
    )
    types: Annotated[
        dict[str, Literal["int", "float"]], Meta(description="Groups that are numbers; others are texts.")
    ] = msgspec.field(default_factory=dict)
    unless_fields: Annotated[
        list[str], Meta(description="Leave events alone that have one of these fields already.")
    ] = msgspec.field(default_factory=list)
    on_mismatch: Annotated[
        Literal["keep", "error"], Meta(description="An event that no pattern fits passes unchanged, or is an error.")
    ] = "keep"

    def check(self) -> list[str]:
        """Patterns that are missing, do not compile or have no named group; types of groups that no pattern has."""
        problems, known = [], set[str]()
        if (self.pattern is None) == (not self.patterns):
            problems.append("pattern: set `pattern` or `patterns`, one of the two")
        name = "patterns" if self.patterns else "pattern"
        for text in _texts(self):
            try:
                groups = _compile(text).groupindex
            except re2.error as error:
                problems.append(f"{name}: RE2 does not take {text!r}: {_sentence(error)}")
                continue
            known |= groups.keys()
            if not groups:
                problems.append(f"{name}: {text!r} has no named group: write `(?P<name>…)`")
        unknown = sorted(self.types.keys() - known)
        if unknown and not problems:
            problems.append(f"types: no pattern has a group {', '.join(unknown)}")
        return problems


class ParseRegex(Stage):
    """See the module."""

    Config = ParseRegexConfig
    EXAMPLES = (
        Example(
            "An access line",
            {
                "pattern": r'(?P<client>\S+) "(?P<method>[A-Z]+) (?P<path>\S+)" (?P<status_code>\d+)',
                "types": {"status_code": "int"},
            },
            given={"message": '10.0.0.1 "GET /tools" 200'},
            expected={"client": "10.0.0.1", "method": "GET", "path": "/tools", "status_code": 200},
        ),
        Example(
            "What does not fit passes",
            {"pattern": r"(?P<log_level>[A-Z]+): (?P<message>.*)"},
            given=[{"message": "ERROR: no route"}, {"message": "no route"}],
            expected=[{"log_level": "ERROR", "message": "no route"}, {"message": "no route"}],
        ),
        Example(
            "What does not fit is an error",
            {"pattern": r"(?P<log_level>[A-Z]+): (?P<message>.*)", "on_mismatch": "error"},
            given={"message": "no route"},
            expected=[],
            failed=["no pattern fits message"],
        ),
    )

    def __init__(self, config: ParseRegexConfig, context: Context) -> None:
        super().__init__(config, context)
        self._fields = (config.field,) if isinstance(config.field, str) else tuple(config.field)
        self._patterns = [_matcher(text, config.types) for text in _texts(config)]
        self._unless = frozenset(config.unless_fields)

    def apply(self, batch: Batch) -> Batch:
        """Parse each event that does not have its fields yet."""
        errors: dict[int, BaseException] = {}
        fits_nothing = self._unless.isdisjoint
        for index, record in enumerate(batch.records):
            if not fits_nothing(record):
                continue
            try:
                batch.records[index] = self._parsed(record)
            except Exception as error:  # whatever the text brought it to, its neighbours go on
                errors[index] = error
        return on_error(self, batch, errors)

    def _parsed(self, record: Record) -> Record:
        for field in self._fields:
            text = record.get(field)
            if not isinstance(text, str):
                continue
            raw = text.encode("utf-8", "replace")
            for fullmatch, groups in self._patterns:
                if match := fullmatch(raw):
                    found = {
                        n: kind(v.decode("utf-8", "replace")) for i, n, kind in groups if (v := match[i]) is not None
                    }
                    return {**{key: value for key, value in record.items() if key != field}, **found}
        if self.config.on_mismatch == "error":
            raise StageError(f"no pattern fits {' or '.join(self._fields)}")
        return record


def _texts(config: ParseRegexConfig) -> list[str]:
    return config.patterns or ([] if config.pattern is None else [config.pattern])


def _compile(text: str) -> Any:
    options = re2.Options()
    options.log_errors = False  # RE2 would write them to standard error itself
    return re2.compile(text, options)


def _sentence(error: Exception) -> str:
    reason = error.args[0] if error.args else error
    return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)


def _matcher(text: str, types: dict[str, Any]) -> tuple[Callable[[bytes], Any], list[Group]]:
    """Matching on bytes: on texts the binding counts characters for every group, four times as slow."""
    pattern = _compile(text)
    kinds: dict[str | None, Callable[[str], Any]] = {"int": _integer, "float": _number}
    groups = [(index, name, kinds.get(types.get(name), str)) for name, index in pattern.groupindex.items()]
    return pattern.fullmatch, groups


def _integer(text: str) -> int | str:
    """The text itself where it is no integer of 64 bits: an odd value is no reason to lose the line."""
    try:
        number = int(text)
    except ValueError:
        return text
    return number if -(2**63) <= number < 2**64 else text


def _number(text: str) -> float | str:
    try:
        number = float(text)
    except ValueError:
        return text
    return number if abs(number) < float("inf") else text
