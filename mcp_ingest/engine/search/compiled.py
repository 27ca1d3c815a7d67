"""Checks as queries of the embedded store; see `outputs/store/schema.py` for what lies where."""

from __future__ import annotations

from tantivy import FieldType, Index, Occur, Query

from mcp_ingest.engine.search import patterns
from mcp_ingest.engine.search.checks import (
    All,
    Between,
    Check,
    Everything,
    Exists,
    No,
    Pattern,
    Range,
    Some,
    Term,
    Wildcard,
)
from mcp_ingest.errors import QueryError
from mcp_ingest.outputs.store import schema

_RANGE_TEXT = 64


def compiled(check: Check, index: Index) -> Query:
    """The tantivy query; `index` is one of the store's parts (they all have the same schema)."""
    match check:
        case Everything():
            return Query.all_query()
        case All(parts):
            return Query.boolean_query([(Occur.Must, compiled(part, index)) for part in parts])
        case Some(parts):
            return Query.boolean_query([(Occur.Should, compiled(part, index)) for part in parts])
        case No(part):
            return Query.boolean_query([(Occur.Must, Query.all_query()), (Occur.MustNot, compiled(part, index))])
        case Between(first, last):
            return Query.range_query(schema.schema(), "time", FieldType.Integer, first, last)
        case Term(field, text):
            return _term(field, text, index)
        case Wildcard(field, pattern):
            return _wildcard(field, pattern)
        case Exists(field):
            return _exists(field)
        case Range():
            return _range(check, index)


def _text(field: str, value: str) -> Query:
    return Query.term_query(schema.schema(), field, value, "basic")


def _any(queries: list[Query]) -> Query:
    return queries[0] if len(queries) == 1 else Query.boolean_query([(Occur.Should, query) for query in queries])


def _keyword(field: str, value: str) -> Query:
    if len(value) > schema.MAX_KEYWORD:
        return Query.empty_query()
    if field in schema.OWN_KEYWORDS:
        return _text(field, value)
    return _text("terms", schema.term(field, value))


def _matching(field: str, pattern: str) -> Query:
    """Events whose keyword `field` has a value of this regular expression, made of texts as `_stored` has them."""
    if field in schema.OWN_KEYWORDS:
        return _regex(field, pattern)
    return _regex("terms", patterns.literal(schema.unspaced(field) + schema.SEPARATOR) + pattern)


def _stored(field: str, text: str) -> str:
    """A part of a keyword as it stands in the index."""
    return text if field in schema.OWN_KEYWORDS else schema.unspaced(text)


def _regex(field: str, pattern: str) -> Query:
    try:
        return Query.regex_query(schema.schema(), field, pattern)
    except ValueError as error:
        raise QueryError("the pattern is too large") from error


def _term(field: str, text: str, index: Index) -> Query:
    if field == "_id":
        return _text("id", text)
    if field == schema.TEXT:
        return _words(text)
    if field in schema.NUMBERS:
        number = schema.as_number(text)
        return Query.empty_query() if number is None else _numbers(field, number, number)
    if field == schema.MAP:  # any value of the map, at any depth
        return _regex("terms", rf"{schema.MAP}\.[^\x{{0}}]*\x{{0}}{patterns.literal(schema.unspaced(text))}")
    found = [_keyword(field, text)]
    if _dynamic(field) and (number := schema.as_number(text)) is not None:
        found.append(_dynamic_numbers(f"[{number!r} TO {number!r}]", field, index))
    return _any(found)


def _words(text: str) -> Query:
    words = schema.analyzer().analyze(" ".join(schema.words(text)))
    if not words:
        return Query.empty_query()
    if len(words) == 1:
        return Query.term_query(schema.schema(), schema.TEXT, words[0], "position")
    return Query.phrase_query(schema.schema(), schema.TEXT, list(words))


def _wildcard(field: str, signs: Pattern) -> Query:
    if field == schema.TEXT:
        lower = tuple(sign.lower() if isinstance(sign, str) else sign for sign in signs)
        return _regex(field, patterns.wildcard(lower))
    pattern = patterns.wildcard(tuple(_stored(field, sign) if isinstance(sign, str) else sign for sign in signs))
    if field in schema.NUMBERS:
        return Query.empty_query()
    if field == schema.MAP:
        return _regex("terms", rf"{schema.MAP}\.[^\x{{0}}]*\x{{0}}{pattern}")
    return _matching(field, pattern)


def _exists(field: str) -> Query:
    if field in schema.TIMES or field == "_id":
        return Query.all_query()
    if field in schema.OWN_KEYWORDS or field in schema.NUMBERS:
        return Query.exists_query(field)
    return _text("names", schema.unspaced(field))


def _range(check: Range, index: Index) -> Query:
    field = check.field
    if field == "_id":
        raise QueryError("a range over `_id` is not supported")
    low = schema.as_number(check.low) if check.low is not None else None
    high = schema.as_number(check.high) if check.high is not None else None
    numeric = (check.low is None or low is not None) and (check.high is None or high is not None)
    if field in schema.NUMBERS:
        return _numbers(field, low, high, check.with_low, check.with_high) if numeric else Query.empty_query()
    found = [_text_range(check)]
    if numeric and _dynamic(field):
        opening, closing = "[{"[not check.with_low or low is None], "]}"[not check.with_high or high is None]
        start, end = ("*" if bound is None else repr(bound) for bound in (low, high))
        found.append(_dynamic_numbers(f"{opening}{start} TO {end}{closing}", field, index))
    return _any(found)


def _numbers(field: str, low: float | None, high: float | None, with_low: bool = True, with_high: bool = True) -> Query:
    return Query.range_query(schema.schema(), field, FieldType.Float, low, high, with_low, with_high)


def _dynamic(field: str) -> bool:
    """Whether a field may hold numbers under a name that nobody declared."""
    return field not in schema.KEYWORDS and field.partition(".")[0] != schema.MAP


def _dynamic_numbers(bounds: str, field: str, index: Index) -> Query:
    return index.parse_query(f"numbers.{schema.number_key(field)}:{bounds}")


def _text_range(check: Range) -> Query:
    if max(len(check.low or ""), len(check.high or "")) > _RANGE_TEXT:
        raise QueryError(f"a bound of a range of text has at most {_RANGE_TEXT} characters")
    sides = []
    if check.low is not None:
        sides.append(_matching(check.field, patterns.at_least(_stored(check.field, check.low), check.with_low)))
    if check.high is not None:
        sides.append(_matching(check.field, patterns.at_most(_stored(check.field, check.high), check.with_high)))
    return sides[0] if len(sides) == 1 else Query.boolean_query([(Occur.Must, side) for side in sides])
