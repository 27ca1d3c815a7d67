"""Lucene's query syntax, read with luqum into `checks`: the subset that means the same on both backends.

- `field:value`, `field:"a phrase"`; without a field, `message` is meant
- `AND`, `OR`, `NOT`, `+`, `-`, brackets, also behind a field: `log_level:(ERROR OR CRITICAL)`. Words side by side are
  joined by AND. NOT binds before AND, and AND before OR (where Lucene's own parser is famously odd)
- `*` and `?` in a word: `message:time*`, `service_name:*-router`; not as the first letter of the fields whose values
  are all different (`request_id`, `trace_id`, `span_id`), and in `metadata.*` only as the last
- `field:*`, `_exists_:field`; `*` or `*:*` is every event
- ranges `[a TO b]`, `{a TO b}`, `>=`, `>`, `<=`, `<` over numbers, keywords and times (see `times`)
- `\\` before a character that would mean something: `: ( ) [ ] { } " ~ * ? \\ / + - ^ ! && ||`

Refused, with its name: fuzzy and proximity (`~`), boosts (`^`), regular expressions (`/…/`), patterns of field names,
`&&`, `||` and `!`. Names of the Elastic Common Schema (`service.name`) mean the platform's (`service_name`).
"""

from __future__ import annotations

import re
from typing import Any

from luqum import tree
from luqum.exceptions import ParseError

from mcp_ingest.codecs.names import ECS_NAMES
from mcp_ingest.engine.search._luqum import parse as luqum_parse
from mcp_ingest.engine.search.checks import (
    ANY_CHARACTER,
    ANY_TEXT,
    All,
    Between,
    Check,
    Everything,
    Exists,
    No,
    Pattern,
    Range,
    Sign,
    Some,
    Term,
    Wildcard,
)
from mcp_ingest.engine.search.times import MAX_TIME, interval
from mcp_ingest.errors import QueryError

DEFAULT_FIELD = "message"
#: Both are the event's time.
TIME_FIELDS = frozenset({"@timestamp", "timestamp"})
#: Nearly every value of these is another: a pattern that begins with a wildcard would read them all.
UNIQUE_FIELDS = frozenset({"request_id", "trace_id", "span_id"})

_MAX_LENGTH = 10_000
_MAX_VALUE = 256
_REFUSED = {
    tree.Fuzzy: "fuzzy search (`~`) is not supported",
    tree.Proximity: "a proximity search (`~`) is not supported",
    tree.Boost: "a boost (`^`) is not supported",
    tree.Regex: "a regular expression (`/…/`) is not supported; put quotes around a value with slashes",
}
_FOREIGN = {"&&": "AND", "||": "OR"}


def parse(text: str, now: int) -> Check:
    """What the text asks for at the time `now` (nanoseconds since 1970); an empty text asks for everything.

    `QueryError` names what is wrong or not supported.
    """
    if not text.strip():
        return Everything()
    if len(text) > _MAX_LENGTH:
        raise QueryError(f"a search text has at most {_MAX_LENGTH} characters")
    try:
        return _Reader(now).read(luqum_parse(text))
    except ParseError as error:
        raise QueryError(_sentence(str(error), text)) from error
    except ArithmeticError as error:  # what luqum makes of `a~.` and `a^.`
        raise QueryError("fuzzy search (`~`) and boosts (`^`) are not supported") from error
    except RecursionError:
        raise QueryError("the search text is nested too deep") from None


def _sentence(error: str, text: str) -> str:
    why = re.sub(r"\s+", " ", error).strip().rstrip("!.")
    hint = '; a negative number needs quotes: `field:>"-5"`' if re.search(r"[<>:]=?-\d", text) else ""
    return f"not a query in Lucene syntax: {why}{hint}"


class _Reader:
    """Reads luqum's tree; `field` is the one that stands before a bracket, None outside of one."""

    def __init__(self, now: int) -> None:
        self._now = now

    def read(self, node: Any, field: str | None = None) -> Check:
        _refuse(node)
        match node:
            case tree.SearchField():
                return self._in_field(node, field)
            case tree.Group() | tree.FieldGroup():
                return self.read(node.expr, field)
            case tree.OrOperation():
                return Some(tuple(self.read(_not_plus(part), field) for part in node.children))
            case tree.AndOperation():
                return All(tuple(self.read(part, field) for part in node.children))
            case tree.UnknownOperation():
                return self._side_by_side(node, field)
            case tree.Not() | tree.Prohibit():
                return No(self.read(node.a, field))
            case tree.Plus():
                return self.read(node.a, field)
        return self._value(node, field)

    def _value(self, node: Any, field: str | None) -> Check:
        match node:
            case tree.Phrase():
                return self._term(field, _unescape(_short(node.value[1:-1])))
            case tree.Word():
                return self._word(field, node.value)
            case tree.Range() | tree.From() | tree.To():
                return self._range(field, node)
        raise QueryError(f"`{str(node).strip()}` is not supported")

    def _side_by_side(self, node: Any, field: str | None) -> Check:
        """Words side by side are joined by AND; an OR that luqum hangs below them binds weaker all the same."""
        groups: list[list[Check]] = [[]]
        for part in node.children:
            if isinstance(part, tree.OrOperation):
                first, *others = (self.read(_not_plus(child), field) for child in part.children)
                groups[-1].append(first)
                groups += [[other] for other in others]
            else:
                groups[-1].append(self.read(part, field))
        parts = [group[0] if len(group) == 1 else All(tuple(group)) for group in groups]
        return parts[0] if len(parts) == 1 else Some(tuple(parts))

    def _in_field(self, node: Any, outer: str | None) -> Check:
        text = str(node).strip()
        if outer is not None or isinstance(node.expr, tree.SearchField):
            raise QueryError(f"a field inside a field (`{text}`): put quotes around a value with a colon")
        if isinstance(node.expr, tree.Prohibit | tree.Plus):
            raise QueryError(f'`{text}`: write the sign in quotes (`field:"-5"`), or NOT before the field')
        if node.name == "*" and isinstance(node.expr, tree.Word) and node.expr.value == "*":
            return Everything()
        if _has_wildcard(node.name):
            raise QueryError(f"a pattern as a field's name (`{node.name}`) is not supported")
        name = _unescape(node.name)
        if name == "_exists_" and isinstance(node.expr, tree.Word | tree.Phrase):
            return Exists(_known(_unescape(node.expr.value.strip('"'))))
        return self.read(node.expr, _known(name))

    def _term(self, field: str | None, text: str) -> Check:
        return Between(*interval(text, self._now)) if field in TIME_FIELDS else Term(field or DEFAULT_FIELD, text)

    def _word(self, field: str | None, value: str) -> Check:
        if value in _FOREIGN:
            raise QueryError(f"`{value}` is not supported: write {_FOREIGN[value]}")
        if value.startswith("!"):
            raise QueryError("`!` is not supported: write NOT")
        if not _has_wildcard(_short(value)):
            return self._term(field, _unescape(value))
        if value == "*":
            return Exists(field) if field else Everything()
        return _wildcard(field or DEFAULT_FIELD, _pattern(value))

    def _range(self, field: str | None, node: Any) -> Check:
        if field is None or field == DEFAULT_FIELD:
            raise QueryError("a range over the words of `message` is not supported: name another field before it")
        if isinstance(node, tree.Range):
            made = Range(field, _bound(node.low), _bound(node.high), node.include_low, node.include_high)
        elif isinstance(node, tree.From):
            made = Range(field, _bound(node.a), None, with_low=node.include)
        else:
            made = Range(field, None, _bound(node.a), with_high=node.include)
        if made.low is None and made.high is None:
            return Exists(field)
        if _in_map(field) and None in (made.low, made.high):
            raise QueryError(f"a range in `{field}` needs both bounds (`[a TO b]`, compared as text)")
        return self._times(made) if field in TIME_FIELDS else made

    def _times(self, found: Range) -> Check:
        first = last = None
        if found.low is not None:
            low = interval(found.low, self._now)
            first = low.first if found.with_low else min(low.last + 1, MAX_TIME)
        if found.high is not None:
            high = interval(found.high, self._now)
            last = high.last if found.with_high else high.first - 1
        return Between(first, last)


def _refuse(node: Any) -> None:
    for refused, sentence in _REFUSED.items():
        if isinstance(node, refused):
            raise QueryError(sentence)


def _not_plus(node: Any) -> Any:
    if isinstance(node, tree.Plus):
        raise QueryError("`+` beside OR is not supported: use AND and brackets")
    return node


def _known(name: str) -> str:
    if name.startswith("_") and name != "_id":
        raise QueryError(f"the field `{name}` is Elasticsearch's own; of those only `_id` is supported")
    return ECS_NAMES.get(name, name)


def _in_map(field: str) -> bool:
    return field.partition(".")[0] == "metadata"


def _wildcard(field: str, pattern: Pattern) -> Check:
    if field in TIME_FIELDS or field == "_id":
        raise QueryError(f"a wildcard in `{field}` is not supported: write a range, or the whole value")
    if field in UNIQUE_FIELDS and not isinstance(pattern[0], str):
        raise QueryError(f"a wildcard as the first letter is not supported in `{field}`, whose values all differ")
    if _in_map(field) and not (len(pattern) == 2 and pattern[1] is ANY_TEXT):
        raise QueryError(f"in `{field}` a wildcard is supported only as the last letter (`{field}:abc*`)")
    return Wildcard(field, pattern)


def _bound(node: Any) -> str | None:
    text = _short(str(node).strip())
    if text == "*":
        return None
    if text.startswith('"'):
        return _unescape(text[1:-1])
    if _has_wildcard(text):
        raise QueryError(f"a wildcard in a range (`{text}`) is not supported")
    return _unescape(text)


def _short(value: str) -> str:
    if len(value) > _MAX_VALUE * 4:
        raise QueryError(f"a value in a search text has at most {_MAX_VALUE * 4} characters")
    return value


def _unescape(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)


def _has_wildcard(text: str) -> bool:
    return re.search(r"[*?]", re.sub(r"\\.", "", text, flags=re.DOTALL)) is not None


def _pattern(text: str) -> Pattern:
    made: list[str | Sign] = []
    for escaped, wildcard, plain in re.findall(r"\\(.)|([*?])|([^*?\\]+|\\)", text, flags=re.DOTALL):
        if wildcard:
            sign = ANY_TEXT if wildcard == "*" else ANY_CHARACTER
            if not (sign is ANY_TEXT and made and made[-1] is ANY_TEXT):
                made.append(sign)
        elif made and isinstance(made[-1], str):
            made[-1] += escaped or plain
        else:
            made.append(escaped or plain)
    if sum(not isinstance(sign, str) for sign in made) > 20:
        raise QueryError("a pattern has at most 20 wildcards")
    return tuple(made)
