"""Fluentd's match patterns: which tags a pipeline takes.

`*` is one part of a tag (or a piece of one), `**` any number of parts, none too (`a.**` takes `a`), `{a,b}`
one of several, `/…/` a regular expression (RE2) over the whole tag; several patterns stand in a list or are
separated by spaces. As in https://docs.fluentd.org/configuration/config-file#how-do-match-patterns-work and
`Fluent::GlobMatchPattern`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import product

import re2

_REMEMBERED_TAGS = 8192  # tags are the senders' words: what is remembered of them must be bounded


def compile_patterns(patterns: Iterable[str]) -> Callable[[str], bool]:
    """A predicate that says whether a tag fits any of the patterns; ValueError where one is malformed."""
    return _compile(tuple(split(patterns)))


def split(patterns: Iterable[str]) -> list[str]:
    """Each pattern by itself: those separated by spaces taken apart."""
    return [part for pattern in patterns for part in pattern.split()]


def covered(patterns: Sequence[str], by: Sequence[str]) -> bool:
    """Whether every tag that `patterns` take is taken by `by`.

    Tried with tags made of parts that no pattern names: `*` becomes one such part, `**` none up to more of
    them than any pattern of `by` has parts, so only a `**` of theirs can have taken the longest.
    """
    takes = compile_patterns(by)
    longest = max((pattern.count(".") + 2 for pattern in split(by)), default=1)
    others = set(split(by))
    for pattern in split(patterns):
        if pattern in others:
            continue
        if pattern.startswith("/"):
            if not covered(["**"], by):
                return False
        elif not all(takes(tag) for simple in _alternatives(pattern) for tag in _samples(simple, longest)):
            return False
    return True


@functools.lru_cache(256)
def _compile(patterns: tuple[str, ...]) -> Callable[[str], bool]:
    if not patterns:
        raise ValueError("there is no pattern")
    if "**" in patterns:
        return _takes_all
    expression = re2.compile("|".join(f"(?:{_expression(pattern)})" for pattern in patterns))

    @functools.lru_cache(_REMEMBERED_TAGS)
    def takes(tag: str) -> bool:
        return expression.fullmatch(tag) is not None

    return takes


def _takes_all(tag: str) -> bool:
    return True


def _expression(pattern: str) -> str:
    if pattern.startswith("/"):
        if len(pattern) < 3 or not pattern.endswith("/"):
            raise ValueError(f"{pattern!r} begins like a regular expression and does not end with '/'")
        try:
            re2.compile(pattern[1:-1])
        except re2.error as error:
            raise ValueError(f"{pattern!r} is not a regular expression: {_text(error)}") from None
        return f"(?s:{pattern[1:-1]})"
    return "|".join(map(_glob, _alternatives(pattern)))


def _text(error: Exception) -> str:
    text = error.args[0] if error.args else error
    return text.decode(errors="replace") if isinstance(text, bytes) else str(text)


# A dot before `**` belongs to it: nothing of the two stands in the tag where the pattern takes no part.
_TOKEN = re.compile(r"(?P<rest>\.\*\*\Z)|(?P<middle>(?:\.|\A)\*\*\.)|(?P<any>\*\*)|(?P<part>\*)|(?P<text>[^*.]+|.)")


def _glob(pattern: str) -> str:
    """The regular expression of a pattern without alternatives."""
    expression = []
    for token in _TOKEN.finditer(pattern):
        match token.lastgroup:
            case "rest":
                expression.append(r"(?s:\..*)?")
            case "middle":
                expression.append(r"\." * token[0].startswith(".") + r"(?s:.*\.)?")
            case "any":
                expression.append("(?s:.*)")
            case "part":
                expression.append(r"[^.]*")
            case _:
                expression.append(re2.escape(token[0]))
    return "".join(expression)


def _alternatives(pattern: str) -> list[str]:
    """Every pattern that is meant by one with `{a,b}`, which may stand inside each other."""
    start = pattern.find("{")
    if start < 0:
        if "}" in pattern:
            raise ValueError(f"{pattern!r} has a '}}' without its '{{'")
        return [pattern]
    choices, end = _choices(pattern, start)
    return [simple for choice in choices for simple in _alternatives(pattern[:start] + choice + pattern[end:])]


def _choices(pattern: str, start: int) -> tuple[list[str], int]:
    """What stands between the brace at `start`, its commas and its closing brace; and the place behind that."""
    depth, begin, choices = 0, start + 1, []
    for index in range(start, len(pattern)):
        match pattern[index]:
            case "{":
                depth += 1
            case "}":
                depth -= 1
        if (depth == 1 and pattern[index] == ",") or depth == 0:
            choices.append(pattern[begin:index])
            begin = index + 1
        if depth == 0:
            return choices, begin
    raise ValueError(f"{pattern!r} has a '{{' without its '}}'")


def _samples(pattern: str, longest: int) -> list[str]:
    """Tags that a pattern without alternatives takes, made of parts that stand in no pattern."""
    strange = "\ue000"
    fills = [".".join([strange] * count) for count in range(longest + 1)]
    pieces = [fills if piece == "**" else [strange] if piece == "*" else [piece] for piece in _pieces(pattern)]
    return [".".join(part for part in ".".join(choice).split(".") if part) for choice in product(*pieces)]


def _pieces(pattern: str) -> list[str]:
    """The pattern's parts; a `*` or `**` inside a part stands for a strange piece of it."""
    return [piece if piece in ("*", "**") else re.sub(r"\*+", "\ue000", piece) for piece in pattern.split(".")]
