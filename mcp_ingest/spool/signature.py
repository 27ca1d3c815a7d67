"""The error signature of a dead letter: letters of one cause have one, so that a million of them are one line to read.

It is made of what kind of error it is, where the event fell out, and the reason's shape: the reason without what varies
from event to event. Names of fields and types stay, in brackets or backticks as Elasticsearch and our stages write
them: they are what one has to mend. A pure function; its table of real reasons is `tests/spool/test_signature.py`.
"""

from __future__ import annotations

import functools
import hashlib
import re

_LOOKED_AT, _LONGEST = 2000, 300  # characters of a reason, and of its shape
_STATUS = re.compile(r"[1-5]\d\d (?=[A-Za-z])")

#: What varies, in this order. Bracketed values come before quoted ones, quoted ones before numbers.
_VARIABLE: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # values that Elasticsearch puts into brackets, where names stand otherwise
        (r"(date field|index name|index|routing|analyzed value|value) \[[^\]]*\]", r"\1 […]"),
        (r"\[[^\[\]]*[^\[\]\w.,@|:*/+\x0e-\x17-][^\[\]]*\]", "[…]"),
        # names that it puts into quotes
        (r"(field)=\"([\w.@\x0e-\x17-]+)\"", r"\1=[\2]"),
        # quoted values, also one that is cut off; an apostrophe within a word is none
        (r"\"(?:[^\"\\]|\\.)*(?:\"|\\?$)", "…"),
        (r"(?<!\w)[bu]?'(?:[^'\\]|\\.)*(?:'(?!\w)|\\?$)", "…"),
        # times, ids, addresses, numbers
        (r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?", "TIME"),
        (r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b", "ID"),
        (r"\b(?:0x)?(?=[a-fA-F]*\d)(?=\d*[a-fA-F])[0-9a-fA-F]{8,}\b", "ID"),
        (r"(?<![\w-])(?=[\w-]*\d)(?=[\w-]*[a-z])(?=[\w-]*[A-Z])[\w-]{20,}(?![\w-])", "ID"),
        (r"(?<!\w)-?\d+(?:[.,:]\d+)*(?:[eE][+-]?\d+)?|\d+", "N"),
        (r"N(?:, ?N)+", "N"),
    )
)


_ZEROS = str.maketrans("123456789", "000000000")

#: One or two digits in a name that else consists of letters (`field1`, `http2`): another name, not another value. They
#: are control characters for as long as numbers are taken out.
_NUMBERED = re.compile(r"[\[`\".](?=[A-Za-z_]*[g-zG-Z_])[A-Za-z_]+\d{1,2}[A-Za-z_]*(?=[\]`\".])")
_DIGITS, _HIDDEN = "0123456789", "\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17"
_HIDE, _SHOW = str.maketrans(_DIGITS, _HIDDEN), str.maketrans(_HIDDEN, _DIGITS)


def shape(reason: str) -> str:
    """The reason with its variable parts taken out; a status of HTTP at its beginning stays."""
    text = " ".join(reason[:_LOOKED_AT].split())
    status = _STATUS.match(text)
    head = status[0] if status else ""
    rest = _NUMBERED.sub(lambda name: name[0].translate(_HIDE), text[len(head) :])
    return head + _shaped(rest.translate(_ZEROS))


@functools.lru_cache(1024)
def _shaped(text: str) -> str:
    """The shape of a text whose digits are all noughts: few of those that a storm of letters brings are different.

    So one costs 2 µs, and not the 40 of all these patterns.
    """
    for pattern, replacement in _VARIABLE:
        text = pattern.sub(replacement, text)
    return text[:_LONGEST].translate(_SHOW)


def signature(kind: str, where: tuple[str, str, str, str], reason: str) -> str:
    """Twelve hexadecimal digits; `where` is output, input, pipeline and stage, empty for none."""
    parts = "\0".join((kind, *where, shape(reason)))
    return hashlib.blake2b(parts.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
