"""What is masked: the packs `pci` and `secrets` as rules, and rules that the user writes.

A rule looks at UTF-8 bytes. Its `trigger` is a pattern that matches wherever the rule finds something, in the text
itself *and* in the text as orjson writes it inside a JSON document (quote, backslash and control characters escaped,
all else as it is). So one pass over a serialised batch finds the few events that are worth a closer look. All
patterns are RE2: their time is linear in the text, whatever an attacker sends.
"""

from __future__ import annotations

import base64
import binascii
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import orjson
import re2

from mcp_ingest.errors import ConfigError

Span = tuple[int, int]
Match = Callable[[bytes, int, int], Sequence[Span]]
Replace = Callable[[Sequence[Any]], bytes | None]

_OPTIONS = re2.Options()
_OPTIONS.max_mem = 64 << 20  # large automata stay in the fast engine
_OPTIONS.log_errors = False


_SEARCH_ONLY = re2.Options()
_SEARCH_ONLY.max_mem = 64 << 20
_SEARCH_ONLY.never_capture = True


def compiled(pattern: str) -> Any:
    """The RE2 pattern, for UTF-8 bytes; `re2.error` says what is wrong with it."""
    return re2.compile(pattern, _OPTIONS)


def any_of(patterns: Iterable[str]) -> Any:
    """One RE2 pattern that matches where any of these does; without groups, to be searched with."""
    return re2.compile("|".join(patterns), _SEARCH_ONLY)


def matcher(pattern: Any) -> Match:
    """A call of the engine itself: from `(text, start, end)` to the spans of the match and its groups.

    The first span is `(-1, -1)` where nothing matches, a group's where it took no part. It costs 1 µs; what the
    binding's `search` and `finditer` put around it, a generator and an object for the match, 2 to 3 more.
    """
    return partial(pattern._regexp.Match, re2._Anchor.UNANCHORED)


def each_match(match: Match, text: bytes) -> Iterator[Sequence[Span]]:
    """The spans of one match after the other, none over another, as `finditer` finds them."""
    position, end = 0, len(text)
    while (spans := match(text, position, end))[0][0] >= 0:
        yield spans
        if position == end:
            return
        position = spans[0][1] if spans[0][1] > position else position + 1  # behind an empty match: one further


def set_of(patterns: Iterable[str]) -> Any:
    """An RE2 set: `Match(text)` returns the indices of all these patterns that match somewhere, in any order."""
    result = re2.Set.SearchSet(_SEARCH_ONLY)
    for pattern in patterns:
        result.Add(pattern)
    result.Compile()
    return result


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of thing that must not be seen.

    `apply(text)` returns the masked text and how many it masked. `key` finds the names of fields whose whole value
    is masked. `number(value)` is the text as which a number is looked at, None if it need not be.
    `in_json` says whether the trigger is good for a serialised event: always, only for one in which JSON escaped
    nothing, or never.
    """

    name: str
    trigger: str
    apply: Callable[[bytes], tuple[bytes, int]]
    key: Any = None
    number: Callable[[float], bytes | None] | None = None
    in_json: Literal["always", "unescaped", "never"] = "always"


def placeholder(name: str) -> str:
    """What stands where something was masked by the rule of this name."""
    return f"[REDACTED:{name}]"


def _substitution(pattern: str, replace: Replace) -> Callable[[bytes], tuple[bytes, int]]:
    """Replace each match by what `replace` makes of it and its groups; None leaves it as it is."""
    match = matcher(compiled(pattern))

    def apply(text: bytes) -> tuple[bytes, int]:
        pieces: list[bytes] = []
        end = count = 0
        for spans in each_match(match, text):
            new = replace([text[a:b] if a >= 0 else None for a, b in spans])
            if new is not None:
                pieces += (text[end : spans[0][0]], new)
                end, count = spans[0][1], count + 1
        return (b"".join((*pieces, text[end:])), count) if count else (text, 0)

    return apply


# --- secrets by the name before them ------------------------------------------------------------------------

_SENSITIVE_NAMES = (
    r"(?:passw(?:or)?ds?|passwd|pwd|passphrases?|secrets?|credentials?|token|jwt|bearer|authorization"
    r"|(?:api|access|secret|private|encryption|signing)[-_. ]?keys?)"
    r"(?:[-_]?(?:confirmation|confirm|hash|value))?[0-9]{0,2}"
)
_CARD_CODE_NAMES = r"(?:cvv2?|cvc2?|(?:card[-_ ]?)?(?:verification|security)[-_ ]?code)"

# quoted (the quote escaped, double, single), a list or a map
_QUOTED = (
    r"""\\+["'].*?(?:\\+["']|\z)|"(?:[^"\\]|\\.)*(?:"|\z)|'(?:[^'\\]|\\.)*(?:'|\z)"""
    r"""|\{[^{}]*(?:\}|\z)|\[[^\[\]]*(?:\]|\z)"""
)
# what an Authorization header may hold, or a word
_WORD = (
    r"""(?:digest|aws4-hmac-sha256)[ \t]+[^\r\n]+"""
    r"""|(?:(?:bearer|basic|negotiate|token|apikey)[ \t]+)?[^\s"'&;,]+"""
)
_REST_OF_LINE = r"""[^\r\n"']+"""
_QUOTE = re.compile(rb"""\\*["']""")
# each step of it has one way to go on: the standard library is as safe here, and faster to call
_HARMLESS = re.compile(rb"(?i)null|none|nil|undefined|true|false|(?:[a-z]+[ \t]+)?\[REDACTED:[a-z0-9_:]+\]")


def _named(name: str, names: str, bare: str = _WORD) -> Rule:
    """A rule for `NAME=value`, `"NAME": "value"` and the like, and for fields of such names."""
    mark = placeholder(name).encode()

    def replace(groups: Sequence[Any]) -> bytes | None:
        _, before, value = groups
        found = _QUOTE.match(value)
        quote = found[0] if found else b""
        closing = quote if quote and len(value) >= 2 * len(quote) and value.endswith(quote) else b""
        inner = value[len(quote) : len(value) - len(closing)]
        if not inner or _HARMLESS.fullmatch(inner):
            return None
        return bytes(before + quote + mark + closing)

    return Rule(
        name,
        rf"""(?i:{names}(?:[\\"' \t]|\\t)*[=:])""",
        _substitution(rf"""(?is)({names}\\*["']?[ \t]*(?:=>|:=|[=:])[ \t]*)({_QUOTED}|{bare})""", replace),
        key=compiled(rf"(?i)(?:{names})$"),
    )


_LATIN = re2.Options()
_LATIN.encoding = re2.Options.Encoding.LATIN1
_PACKED = re2.compile(
    rf"(?s)(?i:{_SENSITIVE_NAMES}|cookie|{_CARD_CODE_NAMES})(?:([\xa1-\xbf])|\xd9(.)|\xda(..)|\xdb(....))".encode(
        "latin-1"
    ),
    _LATIN,
)


def mask_packed(data: bytes) -> tuple[bytes, int]:
    """Bytes with what MessagePack has as the text behind a secret's name overwritten, and how many.

    A forward frame that could not be decoded holds its fields so: the name, a header with the length, the text
    (https://github.com/msgpack/msgpack/blob/master/spec.md, str format family).
    """
    result, count = bytearray(data), 0
    for match in _PACKED.finditer(data):
        length = match[1][0] & 0x1F if match[1] else int.from_bytes(match[2] or match[3] or match[4], "big")
        end = min(match.end() + length, len(data))
        result[match.end() : end] = b"*" * (end - match.end())
        count += 1
    return bytes(result), count


# --- secrets by their own look --------------------------------------------------------------------------------


def _bearer(groups: Sequence[Any]) -> bytes | None:
    _, scheme, space, token = groups
    secret = _is_basic(token) if scheme.lower() == b"basic" else _is_token(token)
    return bytes(scheme + space + placeholder("bearer").encode()) if secret else None


def _is_basic(token: bytes) -> bool:
    try:
        return b":" in base64.b64decode(token + b"=" * (-len(token) % 4), validate=True)
    except (ValueError, binascii.Error):
        return False


def _is_token(token: bytes) -> bool:
    """Not a word of prose, as in "bearer authentication failed"."""
    return len(token) >= 16 or not token.isalpha() or not (token.islower() or token.istitle() or token.isupper())


def _url_password(groups: Sequence[Any]) -> bytes | None:
    _, before, password, behind = groups
    mark = placeholder("url_password").encode()
    return None if password.endswith(mark) else bytes(before + mark + behind)


_API_KEYS = "|".join(
    (
        r"A(?:KI|SI)A[0-9A-Z]{16}",  # AWS
        r"gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[\w-]{20,}",
        r"xox[a-z]-[A-Za-z0-9-]{10,}|xapp-[A-Za-z0-9-]{10,}",  # Slack
        r"[srp]k_(?:live|test)_[A-Za-z0-9]{10,}|whsec_[A-Za-z0-9]{20,}",  # Stripe
        r"AIza[\w-]{30,}",  # Google
        r"sk-(?:ant|proj|svcacct|or)-[\w-]{16,}|sk-[A-Za-z0-9]{20,}",  # Anthropic, OpenAI
        r"hf_[A-Za-z0-9]{30,}|npm_[A-Za-z0-9]{30,}|pypi-[\w-]{30,}|SG\.[\w-]{16,}\.[\w-]{16,}",
    )
)
_JWT = r"eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*){0,3}"
_EMAIL = r"[\pL\pN._%+-]+(?:@|%40)(?:[\pL\pN-]+\.)+\pL{2,}"
_PEM_BEGIN = r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY"


def _looks(name: str, pattern: str, trigger: str | None = None) -> Rule:
    """A rule that replaces the whole match; without a trigger the pattern is its own (it has no escapes)."""
    mark = placeholder(name).encode()
    return Rule(name, trigger or pattern, _substitution(pattern, lambda _: mark))


def _secrets(_: bool) -> list[Rule]:
    return [
        _looks("private_key", rf"(?s){_PEM_BEGIN}.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----|\z)", _PEM_BEGIN),
        _named("secret", _SENSITIVE_NAMES),
        _named("cookie", "(?:cookie)", _REST_OF_LINE),
        Rule(
            "url_password",
            r"""://[^\s/"'<>]*:[^\s/"'<>]*@""",
            _substitution(r"""(://[^\s/?#:"'<>]*:)([^\s/"'<>]+)(@)""", _url_password),
        ),
        Rule(
            "bearer",
            r"(?i:(?:bearer|basic)(?:[ \t]|\\t))",
            _substitution(r"(?i)\b(bearer|basic)([ \t]+)([A-Za-z0-9._~+/=-]{4,})", _bearer),
        ),
        _looks("api_key", _API_KEYS),
        _looks("jwt", _JWT),
        _looks("email", _EMAIL, r"[\pL\pN._%+-](?:@|%40)(?:[\pL\pN-]+\.)+\pL{2}"),
    ]


# --- card numbers ---------------------------------------------------------------------------------------------

_ISSUERS = re.compile(
    rb"4(?:\d{12}|\d{15}|\d{18})"  # Visa
    rb"|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}"  # Mastercard
    rb"|3[47]\d{13}"  # American Express
    rb"|3(?:0[0-5]|[689]\d)\d{11}|3(?:0[0-5]|[689]\d)\d{13,16}"  # Diners Club
    rb"|6(?:011|4[4-9]\d|5\d\d)\d{12,15}"  # Discover
    rb"|35(?:2[89]|[3-8]\d)\d{12,15}"  # JCB
    rb"|62\d{14,17}"  # UnionPay
    rb"|(?:5018|5020|5038|5893|6304|6759|676[1-3])\d{9,15}"  # Maestro
    rb"|220[0-4]\d{12,15}|9792\d{12}|60\d{14}"  # Mir, Troy, RuPay
)
_SEPARATOR = r"[ \x{a0}-]"


def _more(least: int, most: int | None = None) -> str:
    """So many further digits, separators before each."""
    return rf"(?:{_SEPARATOR}{{0,2}}[0-9]){{{least},{least if most is None else most}}}"


# The issuers' beginnings with the numbers of digits that they use: a longer or shorter run is none, which spares a
# close look at most of the hexadecimal ids that happen to hold thirteen digits in a row.
_CARD_DIGITS = "|".join(
    (
        rf"4{_more(12)}(?:{_more(3)}){{0,2}}",
        rf"(?:5[1-5]|2[2-7]){_more(14)}|220[0-4]{_more(12, 15)}|9792{_more(12)}",
        rf"3[47]{_more(13)}|3[0689]{_more(12)}(?:{_more(2, 5)})?",
        rf"(?:35|6[0-9]){_more(14, 17)}",
        rf"(?:50[1-3]|589|630|67[56])[0-9]{_more(9, 15)}",
    )
)
# A run of digits begins behind what is no digit, and not behind "1." (the fraction of a number); a control
# character before it stands as \u00XX in JSON.
_CARD_TRIGGER = (
    rf"(?:^\.?|[^0-9.]|[^0-9]\.|\\u00[01][0-9a-f]\.?)(?:{_CARD_DIGITS})(?:[^0-9]|\z)"
    r"|[:,\[]-?[0-9](?:\.[0-9]+)?e\+?1[5-8][,}\]]"  # a large float; orjson 3.13 writes the plus, 3.10 does not
)
_RUNS = matcher(compiled(rf"[0-9](?:{_SEPARATOR}{{0,2}}[0-9]){{12,}}"))
_DIGITS = re.compile(rb"[0-9]+")  # so simple that the standard library is as safe, and faster to call
_HEXADECIMAL = re.compile(rb"[0-9a-fA-F-]")
_IDENTIFIERS = matcher(
    compiled(r"(?i)\b(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{64}|[0-9a-f]{40}|[0-9a-f]{32})\b")
)
_VALUES = bytes.maketrans(b"0123456789", bytes(range(10)))
_DOUBLED = bytes.maketrans(b"0123456789", bytes((0, 2, 4, 6, 8, 1, 3, 5, 7, 9)))
_SHORTEST, _LONGEST = 13, 19


def is_card_number(digits: str | bytes) -> bool:
    """Whether these digits have an issuer's prefix, a length that the issuer uses, and Luhn's check digit."""
    raw = digits.encode() if isinstance(digits, str) else digits
    if _ISSUERS.fullmatch(raw) is None:
        return False
    return (sum(raw[::-2].translate(_VALUES)) + sum(raw[-2::-2].translate(_DOUBLED))) % 10 == 0


def _card_digits(value: float) -> bytes | None:
    if -(10**12) < value < 10**12:
        return None
    try:
        return str(abs(int(value))).encode()
    except (OverflowError, ValueError):  # infinite or not a number
        return None


def _card_spans(text: bytes) -> Iterator[Span]:
    """Where card numbers stand: one run of digits, or groups with one or two spaces or dashes between."""
    for ((start, end),) in each_match(_RUNS, text):
        groups = _DIGITS.findall(text, start, end)
        places: list[Span] = []
        first = 1 if _is_fraction(text, start) else 0
        while first < len(groups):
            last = _card_end(groups, first)
            if last is not None:
                places = places or [match.span() for match in _DIGITS.finditer(text, start, end)]
                yield places[first][0], places[last][1]
                first = last
            first += 1


def _is_fraction(text: bytes, start: int) -> bool:
    return start > 1 and text[start - 1 : start] == b"." and text[start - 2 : start - 1].isdigit()


def _card_end(groups: list[bytes], first: int) -> int | None:
    """The last group of the longest card number that begins with this group; only the last may be short."""
    length, found = 0, None
    for index in range(first, len(groups)):
        size = len(groups[index])
        length += size
        if length > _LONGEST or (index == first and size < 4):
            break
        if length >= _SHORTEST and is_card_number(b"".join(groups[first : index + 1])):
            found = index
        if size < 3:
            break
    return found


def _outside(spans: list[Span], areas: list[Span]) -> list[Span]:
    """The spans that lie in none of these areas; both stand in the order of the text, none over another."""
    starts = [start for start, _ in areas]
    around = [areas[at - 1] if (at := bisect_right(starts, start)) else (0, 0) for start, _ in spans]
    return [span for span, (_, end) in zip(spans, around, strict=True) if span[1] > end]


def _cards(keep_last_four: bool) -> Callable[[bytes], tuple[bytes, int]]:
    def mark(digits: bytes) -> bytes:
        return b"[REDACTED:card:" + digits[-4:] + b"]" if keep_last_four else b"[REDACTED:card]"

    def apply(text: bytes) -> tuple[bytes, int]:
        spans = list(_card_spans(text))
        if any(_HEXADECIMAL.search(text[max(start - 1, 0) : start] + text[end : end + 1]) for start, end in spans):
            ids = [(a, b) for ((a, b),) in each_match(_IDENTIFIERS, text) if not text[a:b].isdigit()]
            spans = _outside(spans, ids)
        pieces: list[bytes] = []
        last = 0
        for start, end in spans:
            pieces += (text[last:start], mark(b"".join(_DIGITS.findall(text, start, end))))
            last = end
        return (b"".join((*pieces, text[last:])), len(spans)) if spans else (text, 0)

    return apply


def _pci(keep_last_four: bool) -> list[Rule]:
    return [
        Rule("card", _CARD_TRIGGER, _cards(keep_last_four), number=_card_digits),
        _named("card_code", _CARD_CODE_NAMES),
    ]


# --- packs and rules of the user's ----------------------------------------------------------------------------

PACKS: dict[str, Callable[[bool], list[Rule]]] = {"secrets": _secrets, "pci": _pci}

_ATOMS = compiled(r"\\Q.*?(?:\\E|\z)|\\[pP]\{[^}]*\}|\\[^pP]|\\[pP].|\[\^?\]?(?:\\.|\[:[^\]]*:\]|[^\]\\])*\]|\^|\$")
_GROUP = compiled(r"\\([0-9])")
_NAME = compiled(r"[a-z][a-z0-9_]*")


def custom_rule(name: str, pattern: str, replacement: str | None = None) -> Rule:
    r"""A rule of the user's: RE2 syntax; `replacement` may hold `\1` to `\9`, by default it is `[REDACTED:name]`.

    `ConfigError` says what is wrong with it. A pattern with an anchor (`^`, `$`, `\A`, `\z`) works, but its events
    cannot be found in the serialised batch: then every value of every event is looked at (some 20 µs an event).
    """
    expression = _custom_pattern(name, pattern)
    template = placeholder(name) if replacement is None else replacement
    pieces = [piece.encode() for piece in _GROUP.split(template)]
    groups = [int(piece) for piece in pieces[1::2]]
    if groups and max(groups) > expression.groups:
        raise ConfigError(
            [f"rules: {name}: the replacement has \\{max(groups)}, the pattern {expression.groups} groups"]
        )

    def replace(found: Sequence[Any]) -> bytes:
        return b"".join((found[int(piece)] or b"") if index % 2 else piece for index, piece in enumerate(pieces))

    return Rule(
        name,
        f"(?:{pattern})",
        _substitution(pattern, replace),
        number=_number_text,
        in_json="never" if _has_anchor(pattern) else "unescaped",
    )


def _number_text(value: float) -> bytes:
    return str(value).encode() if isinstance(value, int) else orjson.dumps(value)


def _custom_pattern(name: str, pattern: str) -> Any:
    if _NAME.fullmatch(name) is None:
        raise ConfigError([f"rules: {name!r} is not a name: write small letters, digits and underscores"])
    try:
        expression = compiled(pattern)
        compiled(f"(?:{pattern})")
    except re2.error as error:
        message = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
        raise ConfigError([f"rules: {name}: the pattern is not RE2: {message}"]) from None
    if expression.search(b"") is not None:
        raise ConfigError([f"rules: {name}: the pattern matches the empty text, so it would match everywhere"])
    return expression


def _has_anchor(pattern: str) -> bool:
    return any(m[0] in ("^", "$", r"\A", r"\z") for m in _ATOMS.finditer(pattern))
