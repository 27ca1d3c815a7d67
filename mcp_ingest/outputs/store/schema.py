"""What an event is in the index: the same meaning of every field as in our Elasticsearch template.

`message` is text (words, lower case), known fields have their type, `metadata.*` are keywords, and whatever else an
event carries is a keyword or a number by its name. To be small and quick whatever names come along, keywords
without a field of their own share one (`terms`), as Elasticsearch's `flattened` does: `name NUL value`. Which fields
an event has stands in `names`, as Elasticsearch's `_field_names`. The event itself is kept whole, as its line.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tantivy import Document, Filter, Index, Schema, SchemaBuilder, TextAnalyzer, TextAnalyzerBuilder, Tokenizer

from mcp_ingest.codecs.names import FLAT_FIELDS

#: Keywords with few values: a field of their own with a column, for histograms and tables.
OWN_KEYWORDS = ("service_name", "service_version", "log_level", "operation", "tag")
KEYWORDS = frozenset({name for name, kind in FLAT_FIELDS.items() if kind == "keyword"} | {"tag"})
NUMBERS = tuple(name for name, kind in FLAT_FIELDS.items() if kind in ("number", "integer"))
INTEGERS = frozenset(name for name in NUMBERS if FLAT_FIELDS[name] == "integer")
#: Both are the time of the event, which has a column of its own, in nanoseconds.
TIMES = ("@timestamp", "timestamp")
TEXT = "message"
MAP = "metadata"

#: As in the template (`ignore_above`): a longer keyword is kept, but not searchable.
MAX_KEYWORD = 1024
#: As Elasticsearch's limits for depth and fields: what lies beyond is kept, but not searchable.
MAX_DEPTH = 20
MAX_LEAVES = 1000

SEPARATOR = "\x00"
#: Words and terms are handed over as one text, split at white space: tantivy's own tokenizer by regular expression
#: builds its automaton anew for every text (a million events took 40 % longer to index).
WORDS = "words"
ITEMS = "items"
BETWEEN = "\x01"
#: White space in a term stands there as a neighbour of it, so that the order stays.
_SPACES = ((" ", "\x1f"), ("\n", "\x0b"), ("\t", "\x08"), ("\r", "\x0f"), ("\f", "\x0e"))

#: Words as Lucene's standard tokenizer finds them (Unicode TR 29): single Han and Hiragana signs, runs of
#: Katakana, letters and digits joined by `_`, by `.`, `:` and `'` between letters, by `.`, `,`, `;` between digits.
_WORD = (
    r"[\p{Han}\p{Hiragana}]|[\p{Katakana}ー]+"
    r"|[\p{L}\p{N}\p{M}_]+(?:[.'’:·]\p{L}[\p{L}\p{N}\p{M}_]*|[.,;'’]\p{N}[\p{L}\p{N}\p{M}_]*)*"
)
#: The same where no mark, no other script and no rare number is in the text: 4 µs of CPU a message, with RE2 100.
_COMMON = re.compile(r"[\0-\u02ff\u2010-\u2027\u2190-\u23ff\u2500-\u2765]*").fullmatch
_COMMON_WORDS = re.compile(r"\w+(?:[.'’:·][^\W\d_²³¹¼½¾]\w*|[.,;'’][\d²³¹¼½¾]\w*)*").findall


@functools.cache
def _all_words() -> Callable[[str], list[str]]:
    import re2

    return re2.compile(_WORD).findall  # type: ignore[no-any-return]


def words(text: str) -> list[str]:
    """The words of a message, as they are written; none is too long."""
    common = text.isascii() or _COMMON(text)
    return _COMMON_WORDS(text) if common else _all_words()(text)


def unspaced(text: str) -> str:
    """A text as it stands in `terms` and `names`."""
    for space, other in _SPACES:
        text = text.replace(space, other)
    return text


@functools.cache
def analyzer() -> TextAnalyzer:
    """What becomes of words that stand apart."""
    return TextAnalyzerBuilder(Tokenizer.whitespace()).filter(Filter.lowercase()).build()


def register(index: Index) -> None:
    """Make the tokenizers known to an index that is to be written."""
    index.register_tokenizer(WORDS, analyzer())
    index.register_tokenizer(ITEMS, TextAnalyzerBuilder(Tokenizer.whitespace()).build())


@functools.cache
def schema() -> Schema:
    """The fields of the index."""
    builder = SchemaBuilder()
    builder.add_text_field("chunk", tokenizer_name="raw", index_option="basic")
    for name in ("terms", "names"):
        builder.add_text_field(name, tokenizer_name=ITEMS, index_option="basic")
    builder.add_text_field("id", stored=True, tokenizer_name="raw", index_option="basic")
    builder.add_integer_field("time", fast=True)
    builder.add_text_field(TEXT, tokenizer_name=WORDS, index_option="position")
    for name in OWN_KEYWORDS:
        builder.add_text_field(name, fast=True, tokenizer_name="raw", index_option="basic")
    for name in NUMBERS:
        builder.add_float_field(name, fast=True)
    builder.add_json_field("numbers", fast=True, tokenizer_name="raw", index_option="basic")
    builder.add_bytes_field("line", stored=True)
    return builder.build()


@functools.lru_cache(maxsize=10_000)
def number_key(path: str) -> str:
    """The key of a number in the JSON field `numbers`: letters and digits only, so that it needs no escaping."""
    plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", path) and not path.startswith("x_")
    return path if plain else "x_" + path.encode("utf-8", "surrogatepass").hex()


def document(record: dict[str, Any], chunk: str, event_id: str, time: int, line: bytes) -> Document:
    """An event as the index takes it."""
    made = Document()
    made.add_text("chunk", chunk)
    made.add_text("id", event_id)
    made.add_integer("time", time)
    made.add_bytes("line", line)
    named = _Named([], [], {})
    for path, value in leaves(record):
        if path in _TYPED:
            _add_typed(made, named, path, value)
        elif type(value) is str and len(value) <= MAX_KEYWORD and not path.startswith(_IN_MAP):
            named.terms.append(path + SEPARATOR + value)
            named.names.append(path)
        else:
            named.add(path, value)
    if named.names:
        made.add_text("names", _joined(named.names))
    if named.terms:
        made.add_text("terms", _joined(named.terms))
    if named.numbers:
        made.add_json("numbers", named.numbers)
    return made


_TYPED = frozenset({*TIMES, *NUMBERS, TEXT, *OWN_KEYWORDS})
_IN_MAP = MAP + "."


def _add_typed(made: Document, named: _Named, path: str, value: Any) -> None:
    if path in OWN_KEYWORDS:
        if len(text := keyword(value)) <= MAX_KEYWORD:
            made.add_text(path, text)
    elif path == TEXT:
        made.add_text(TEXT, "\n".join(words(keyword(value))))
        named.names.append(TEXT)
    elif path in NUMBERS and (number := as_number(value)) is not None:
        made.add_float(path, float(int(number)) if path in INTEGERS else number)


class _Named(NamedTuple):
    """What an event has under names without a field of their own: the names, the terms, the numbers by key."""

    names: list[str]
    terms: list[str]
    numbers: dict[str, list[float]]

    def add(self, path: str, value: Any) -> None:
        in_map = path.startswith(_IN_MAP)
        if type(value) in (int, float) and path not in KEYWORDS and not in_map:
            if (number := as_number(value)) is not None:
                self.numbers.setdefault(number_key(path), []).append(number)
                self.names.append(path)
            return
        text = keyword(value)
        if len(text) <= MAX_KEYWORD:
            self.terms.append(path + SEPARATOR + text)
            self.names.append(path)
            if in_map:
                self.names.append(MAP)


def _joined(texts: list[str]) -> str:
    """All of them as one text, which is much quicker to hand over than each alone."""
    text = BETWEEN.join(texts)
    if text.count(BETWEEN) >= len(texts):  # one has it inside
        text = BETWEEN.join([each.replace(BETWEEN, " ") for each in texts])
    return unspaced(text).replace(BETWEEN, "\n")


def term(path: str, value: str) -> str:
    """A keyword without a field of its own, as it stands in `terms`."""
    return unspaced(f"{path}{SEPARATOR}{value}".replace(BETWEEN, " "))


def leaves(record: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every string, number and boolean with its path: keys joined by dots, lists as several values."""
    budget = MAX_LEAVES
    for path, value in record.items():
        if type(value) is str:
            yield path, value
        elif type(value) in (dict, list):
            for leaf in _nested(path, value, MAX_DEPTH):
                yield leaf
                budget -= 1
                if budget <= 0:
                    return
        elif value is not None:
            yield path, value
        budget -= 1
        if budget <= 0:
            return


def _nested(path: str, value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    if value is None or depth == 0:
        return
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _nested(f"{path}.{key}", inner, depth - 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _nested(path, inner, depth - 1)
    else:
        yield path, value


def keyword(value: Any) -> str:
    """A value as Elasticsearch's `keyword` has it."""
    if type(value) is str:
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def as_number(value: Any) -> float | None:
    """A value as a number field takes it: numbers and strings that say one; None is ignored as malformed."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
