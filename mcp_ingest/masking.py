"""Masking: `Masker` looks at every string, number and key of a record, at every depth, and masks what is secret.

Used by the stage `redact`, by the engine for dead letters, and by outputs for the texts of their peers' errors. It
fails closed: what it cannot look into (nested too deep, a type that JSON has not) raises `StageError`.

Few events hold something to mask, so a batch is serialised and searched once for all rules' triggers
(`masking_rules`); only the events in which one was found, and in those only the fields, meet the rules themselves.
What was serialised for it is handed on, so that it need not be made again.
"""

from __future__ import annotations

import functools
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import orjson

from mcp_ingest.codecs.values import clean_value
from mcp_ingest.errors import ConfigError, StageError
from mcp_ingest.masking_rules import (
    PACKS,
    Match,
    Rule,
    Span,
    any_of,
    compiled,
    custom_rule,
    each_match,
    mask_packed,
    matcher,
    placeholder,
    set_of,
)

DEAD_LETTER_PACKS = ("pci", "secrets")
MAX_DEPTH = 100  # orjson writes 254, but a walk takes three frames a level of Python's 1,000

_CACHED_KEYS = 10_000
_MASKED = compiled(r"\[REDACTED:[a-z0-9_:]+\]")

Record = dict[str, Any]
Counts = dict[str, int]  # a plain one: a Counter costs a microsecond to make


@dataclass(slots=True)
class Masked:
    """What masking a batch came to: new records by index, values masked by rule, failures by index.

    `lines` is the JSON of each record that stays as it is, empty bytes for the others; None if none was made.
    """

    records: dict[int, Record] = field(default_factory=dict)
    counts: Counts = field(default_factory=dict)
    errors: dict[int, Exception] = field(default_factory=dict)
    lines: list[bytes] | None = None


class Masker:
    """The rules of some packs and of the user's own; `exempt_fields` are names (at any depth) or dotted paths.

    `rules` are `(name, pattern, replacement)`; a replacement of None is `[REDACTED:name]`. `ConfigError` says which
    pack is unknown and which pattern is wrong. Records are never changed in place: what is masked is new.
    """

    def __init__(
        self,
        packs: Iterable[str] = DEAD_LETTER_PACKS,
        rules: Iterable[tuple[str, str, str | None]] = (),
        exempt_fields: Iterable[str] = (),
        keep_last_four: bool = False,
    ) -> None:
        self._rules = _all_rules(packs, rules, keep_last_four)
        self._exempt = frozenset(exempt_fields)
        self._has_paths = any("." in name for name in self._exempt)
        self._numeric = [(rule, rule.number) for rule in self._rules if rule.number is not None]
        self._keyed = [(rule, rule.key) for rule in self._rules if rule.key is not None]
        self._clean_keys: set[str] = set()
        triggers = [rule.trigger for rule in self._rules]
        self._in_text = any_of(triggers) if triggers else None
        self._by_trigger = set_of(triggers)
        kinds = {rule.in_json for rule in self._rules}
        escapes = [r"\\"] if "unescaped" in kinds else []  # such an event is looked at, whatever it holds
        self._in_json = matcher(any_of([*triggers, *escapes])) if triggers and "never" not in kinds else None

    def mask_records(self, records: Sequence[Record]) -> Masked:
        """Mask a whole batch; a record that cannot be looked into is an error, its neighbours are masked."""
        result = Masked()
        for index, fields in self._doubtful(records, result).items():
            counts: Counts = {}
            try:
                record = self._mask_map(records[index], "", 0, counts, fields)
            except Exception as error:  # fail closed, whatever it was
                result.errors[index] = error
                continue
            if counts:
                result.records[index] = record
                for rule, count in counts.items():
                    result.counts[rule] = result.counts.get(rule, 0) + count
        if result.lines is not None:
            for index in (*result.records, *result.errors):
                result.lines[index] = b""
        return result

    def mask_record(self, record: Record) -> tuple[Record, Counter[str]]:
        """The record (the same object if nothing was masked) and how many values each rule masked.

        Raises `StageError` for what it cannot look into.
        """
        counts: Counts = {}
        return self._mask_map(record, "", 0, counts), Counter(counts)

    def mask_text(self, text: str) -> str:
        """A text with what the rules find in it masked."""
        return self._mask_string(text, {})

    def mask_bytes(self, data: bytes) -> bytes:
        """Bytes, which may be no UTF-8 (a broken MessagePack frame), with what the rules find in them masked."""
        return self._mask_raw(data, {})

    # --- which events are worth a look ----------------------------------------------------------------------

    def _doubtful(self, records: Sequence[Record], result: Masked) -> dict[int, list[str] | None]:
        """The records in which a rule may find something, with the fields that are worth a look (None: all)."""
        if self._in_text is None:
            return {}
        if self._in_json is None:
            return dict.fromkeys(range(len(records)))
        result.lines = _lines(records)
        places = _places(self._in_json, result.lines)
        doubtful = {i: None if spans is None else _fields_at(records[i], spans) for i, spans in places.items()}
        if b"" in result.lines:
            doubtful.update((index, None) for index, line in enumerate(result.lines) if not line)
        return doubtful

    # --- the walk: whatever is unchanged is returned as the same object -----------------------------------------

    def _mask_map(
        self, record: Record, path: str, depth: int, counts: Counts, only: Iterable[str] | None = None
    ) -> Record:
        if depth > MAX_DEPTH:
            raise StageError(f"nested deeper than {MAX_DEPTH} levels: it cannot be masked")
        keys: dict[str, str] = {}
        values: Record = {}
        for key in record if only is None else only:
            if self._is_exempt(path, key):
                continue
            value = record[key]
            new_key = self._mask_key(key, counts)
            new_value = self._mask_field(key, value, f"{path}{key}." if self._has_paths else "", depth, counts)
            if new_key is not key:
                keys[key] = new_key
            if new_value is not value:
                values[key] = new_value
        if keys:
            return _renamed({**record, **values}, keys)
        return {**record, **values} if values else record

    def _is_exempt(self, path: str, key: str) -> bool:
        return bool(self._exempt) and (key in self._exempt or (self._has_paths and f"{path}{key}" in self._exempt))

    def _mask_key(self, key: Any, counts: Counts) -> Any:
        if key in self._clean_keys:
            return key
        if not isinstance(key, str):
            text = str(key)
            masked = self._mask_string(text, counts)
            return key if masked == text else masked
        return self._mask_string(key, counts)

    def _mask_field(self, key: Any, value: Any, path: str, depth: int, counts: Counts) -> Any:
        """The value of a field, masked as a whole if the field's name says that it is a secret."""
        if key not in self._clean_keys:
            name = str(key).encode("utf-8", "replace")
            for rule, pattern in self._keyed:
                if pattern.search(name) is not None:
                    if _is_harmless(value):
                        return value
                    counts[rule.name] = counts.get(rule.name, 0) + 1
                    return placeholder(rule.name)
            self._remember(key, name)
        return self._mask_value(value, path, depth, counts)

    def _remember(self, key: Any, name: bytes) -> None:
        """Names come again and again: a clean one is looked at once."""
        if isinstance(key, str) and (self._in_text is None or self._in_text.search(name) is None):
            if len(self._clean_keys) >= _CACHED_KEYS:
                self._clean_keys.clear()
            self._clean_keys.add(key)

    def _mask_value(self, value: Any, path: str, depth: int, counts: Counts) -> Any:
        if isinstance(value, str):
            return self._mask_string(value, counts)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int | float):
            return self._mask_number(value, counts)
        if isinstance(value, dict):
            return self._mask_map(value, path, depth + 1, counts)
        if isinstance(value, list | tuple):
            return self._mask_list(value, path, depth + 1, counts)
        if isinstance(value, bytes):
            return self._mask_raw(value, counts)
        try:
            text = orjson.dumps(value).decode()
        except TypeError:
            raise StageError(f"a value of the type {type(value).__name__} cannot be masked") from None
        masked = self._mask_string(text, counts)
        return value if masked is text else masked

    def _mask_list(self, values: Sequence[Any], path: str, depth: int, counts: Counts) -> Any:
        if depth > MAX_DEPTH:
            raise StageError(f"nested deeper than {MAX_DEPTH} levels: it cannot be masked")
        masked = [self._mask_value(value, path, depth, counts) for value in values]
        return masked if any(new is not old for new, old in zip(masked, values, strict=True)) else values

    def _mask_number(self, value: float, counts: Counts) -> Any:
        for rule, as_text in self._numeric:
            text = as_text(value)
            if text is not None and (masked := _applied(rule, text, counts)) is not text:
                return masked.decode("utf-8", "replace")
        return value

    def _mask_string(self, text: str, counts: Counts) -> str:
        data = text.encode("utf-8", "replace")
        masked = self._mask_utf8(data, counts)
        return text if masked is data else masked.decode("utf-8", "replace")

    def _mask_raw(self, data: bytes, counts: Counts) -> bytes:
        if _is_utf8(data):
            return self._mask_utf8(data, counts)
        if self._keyed:
            data, count = mask_packed(data)
            if count:
                counts["secret"] = counts.get("secret", 0) + count
        for rule in self._rules:  # all of them: what is no UTF-8 can hide a trigger
            data = _applied(rule, data, counts)
        return data

    def _mask_utf8(self, data: bytes, counts: Counts) -> bytes:
        waiting = self._which(data)
        while waiting:
            before = data
            data = _applied(self._rules[waiting[0]], data, counts)
            waiting = waiting[1:]
            if waiting and data is not before:  # to ask again is cheaper than a rule that finds nothing any more
                left = self._which(data)
                waiting = [index for index in waiting if index in left]
        return data

    def _which(self, data: bytes) -> Sequence[int]:
        """The rules that may find something; all of them should the set have given up for lack of memory."""
        if self._in_text is None:
            return ()
        found = self._by_trigger.Match(data)
        if not found:
            return () if self._in_text.search(data) is None else range(len(self._rules))
        return sorted(found)


@functools.cache
def strict_masker() -> Masker:
    """What masks dead letters and texts of ours: both packs, no exemptions."""
    return Masker(DEAD_LETTER_PACKS)


def safe_text(text: str) -> str:
    """A text of ours or of a peer, masked; where masking fails, only its length."""
    try:
        return strict_masker().mask_text(str(clean_value(text)[0]))
    except Exception:  # fail closed: nothing unmasked may pass
        return f"(a text of {len(text)} characters that could not be masked)"


def _all_rules(packs: Iterable[str], rules: Iterable[tuple[str, str, str | None]], keep_last_four: bool) -> list[Rule]:
    """The user's rules first, then the packs in a fixed order; every mistake at once."""
    wanted, found, problems = list(packs), [], []
    problems += [f"packs: {name!r} is not a pack: there are {', '.join(PACKS)}" for name in wanted if name not in PACKS]
    for name, pattern, replacement in rules:
        try:
            found.append(custom_rule(name, pattern, replacement))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return [*found, *(rule for name, pack in PACKS.items() if name in wanted for rule in pack(keep_last_four))]


def _lines(records: Sequence[Record]) -> list[bytes]:
    """Each record's JSON, empty bytes for what is none: one call of orjson after the other within C."""
    lines: list[bytes] = []
    rest = map(orjson.dumps, records)
    while len(lines) < len(records):
        try:
            lines.extend(rest)
        except TypeError:  # the lines before it are there already
            lines.append(b"")
    return lines


def _places(match: Match, lines: Sequence[bytes]) -> dict[int, list[Span] | None]:
    """Where in which lines something matches; None for lines that share a match with another one."""
    places: dict[int, list[Span] | None] = {}
    ends: list[int] = []
    for ((start, end),) in each_match(match, b"\n".join(lines)):  # orjson writes no newline of its own
        ends = ends or list(accumulate([len(line) + 1 for line in lines]))
        index = bisect_right(ends, start)
        if end > ends[index]:
            places.update(dict.fromkeys(range(index, bisect_right(ends, end - 1) + 1)))
            continue
        before = ends[index - 1] if index else 0
        spans = places.setdefault(index, [])
        if spans is not None:
            spans.append((start - before, end - before))
    return places


def _fields_at(record: Record, spans: Sequence[Span]) -> list[str]:
    """The fields that these places in the record's JSON touch, each from its key to the comma behind its value."""
    touched, end, ahead = [], 1, deque(spans)
    for name, value in record.items():
        start, end = end, end + len(orjson.dumps(name)) + len(orjson.dumps(value)) + 2
        while ahead and ahead[0][1] <= start:
            ahead.popleft()
        if not ahead:
            break
        if ahead[0][0] < end:
            touched.append(name)
    return touched


def _applied(rule: Rule, data: bytes, counts: Counts) -> bytes:
    masked, count = rule.apply(data)
    if count:
        counts[rule.name] = counts.get(rule.name, 0) + count
    return masked


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_harmless(value: Any) -> bool:
    """Nothing, yes or no, or masked already."""
    if isinstance(value, str):
        return not value or _MASKED.fullmatch(value.encode("utf-8", "replace")) is not None
    return value is None or isinstance(value, bool) or (isinstance(value, dict | list | tuple | bytes) and not value)


def _renamed(record: Record, names: dict[str, str]) -> Record:
    """The record with these fields renamed, in the same order; names that became equal are numbered."""
    result: Record = {}
    numbers: dict[str, int] = {}  # the last one of each name: there may be thousands
    for old, value in record.items():
        key = name = names.get(old, old)
        while name in result:
            numbers[key] = numbers.get(key, 1) + 1
            name = f"{key}#{numbers[key]}"
        result[name] = value
    return result
