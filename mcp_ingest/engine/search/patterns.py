"""Regular expressions over the terms of the store: for wildcards and for ranges of text, in tantivy's dialect."""

from __future__ import annotations

from collections.abc import Iterator

from mcp_ingest.engine.search.checks import ANY_TEXT, Pattern

ANY = r"[\x{0}-\x{10FFFF}]"
_LAST = 0x10FFFF


def literal(text: str) -> str:
    """A pattern for just this text."""
    return "".join(c if c.isalnum() and c.isascii() else f"\\x{{{ord(c):X}}}" for c in text)


def wildcard(pattern: Pattern) -> str:
    """A pattern for `*` and `?`."""
    return "".join(
        literal(part) if isinstance(part, str) else ANY + ("*" if part is ANY_TEXT else "") for part in pattern
    )


def at_least(text: str, inclusive: bool) -> str:
    """A pattern for what sorts behind `text` by code points."""
    longer = f"{literal(text)}{ANY}{'*' if inclusive else '+'}"
    return _either([longer, *_branching(text, above=True)])


def at_most(text: str, inclusive: bool) -> str:
    """A pattern for what sorts before `text` by code points."""
    shorter = [literal(text[:end]) for end in range(len(text))]
    return _either([*shorter, *([literal(text)] if inclusive else []), *_branching(text, above=False)])


def _branching(text: str, *, above: bool) -> Iterator[str]:
    """For each place: the same text before it, a greater (or smaller) character there, anything behind it."""
    for place, character in enumerate(text):
        low, high = (_next(ord(character)), _LAST) if above else (0, _previous(ord(character)))
        if low <= high:
            yield f"{literal(text[:place])}[\\x{{{low:X}}}-\\x{{{high:X}}}]{ANY}*"


def _next(code: int) -> int:
    return 0xE000 if code == 0xD7FF else code + 1


def _previous(code: int) -> int:
    return 0xD7FF if code == 0xE000 else code - 1


def _either(alternatives: list[str]) -> str:
    return f"({'|'.join(alternatives)})" if alternatives else r"[^\x{0}-\x{10FFFF}]"
