"""Words and numbers for how bad it is, to the platform's five levels."""

from __future__ import annotations

from collections.abc import Sequence

from mcp_ingest.codecs.names import LOG_LEVELS

_WORDS: dict[str, str] = {
    word: level
    for level, words in (
        ("DEBUG", "debug trace verbose fine finer finest silly dbg d t v"),
        ("INFO", "info information informational notice success log default i n"),
        ("WARNING", "warning warn wrn w"),
        ("ERROR", "error err severe e"),
        ("CRITICAL", "critical crit fatal emergency emerg alert panic dpanic c f"),
    )
    for word in words.split()
}

Scale = Sequence[tuple[int, str]]  # from this number on

_PYTHON: Scale = ((1, "DEBUG"), (20, "INFO"), (30, "WARNING"), (40, "ERROR"), (50, "CRITICAL"), (101, ""))
_PINO: Scale = ((8, "DEBUG"), (30, "INFO"), (40, "WARNING"), (50, "ERROR"), (60, "CRITICAL"), (101, ""))
_SYSLOG: Scale = ((0, "CRITICAL"), (3, "ERROR"), (4, "WARNING"), (5, "INFO"), (7, "DEBUG"), (8, ""))
_OPENTELEMETRY: Scale = ((1, "DEBUG"), (9, "INFO"), (13, "WARNING"), (17, "ERROR"), (21, "CRITICAL"), (25, ""))
_GOOGLE: Scale = ((100, "DEBUG"), (200, "INFO"), (400, "WARNING"), (500, "ERROR"), (600, "CRITICAL"), (801, ""))

_SCALES: dict[str, tuple[Scale, ...]] = {
    "log_level": (_SYSLOG, _PYTHON),
    "levelno": (_PYTHON,),
    "level": (_SYSLOG, _PINO),  # GELF and syslog say 0 to 7; pino and bunyan 10 to 60
    "severity": (_SYSLOG, _GOOGLE),
    "severity_number": (_OPENTELEMETRY,),
    "severityNumber": (_OPENTELEMETRY,),
    "PRIORITY": (_SYSLOG,),  # journald
}

#: Where a level stands in other houses' records, the most telling first.
LEVEL_FIELDS = (
    "level_name", "levelname", "severity_text", "severityText", "level", "lvl", "loglevel", "logLevel", "severity",
    "severity_number", "severityNumber", "levelno", "PRIORITY",
)  # fmt: skip


def level_of(value: object, field: str) -> str | None:
    """One of the five levels for what stands in this field, or None if it is not understood."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return _of_number(value, _SCALES.get(field, ()))
    if not isinstance(value, str) or len(value) > 32:
        return None
    word = value.strip().strip("[]<>:").lower()
    if word.isascii() and word.isdigit():
        return _of_number(int(word), _SCALES.get(field, ()))
    if word.startswith("level "):  # what Python's logging writes for a number without a name
        number = word.removeprefix("level ")
        return _of_number(int(number), (_PYTHON,)) if number.isascii() and number.isdigit() else None
    return _WORDS.get(word) or _WORDS.get(word.rstrip("1234"))  # OpenTelemetry's INFO2


def _of_number(number: int, scales: Sequence[Scale]) -> str | None:
    for scale in scales:
        found = ""
        for first, level in scale:
            if number >= first:
                found = level
        if found:
            return found
    return None


assert set(_WORDS.values()) == set(LOG_LEVELS)
