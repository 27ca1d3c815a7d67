"""Names of indices and data streams from a template such as `mcp-logs-{@timestamp:%Y.%m.%d}`, a batch at a time.

Elasticsearch's rules for a name ("Create index API", path parameters): lower case, none of `\\ / * ? " < > |`, space,
comma, `#`, `:`, not beginning with `-`, `_`, `+`, not `.` or `..`, at most 255 bytes.
"""

from __future__ import annotations

import re

from mcp_ingest.outputs import _template
from mcp_ingest.outputs._template import PLACEHOLDER, UNKNOWN, Template, cut, parse

_FORBIDDEN = re.compile(r'[\\/*?"<>| ,#:\x00-\x1f\x7f]')
_LONGEST_NAME, _LONGEST_VALUE = 255, 100


def template_problem(template: str) -> str | None:
    """What is wrong with a template, None if nothing is."""
    pieces = parse(template)
    if not pieces or not isinstance(pieces[0], str):
        return "must begin with letters of its own, not with a field"
    literal = "".join(piece for piece in pieces if isinstance(piece, str) and "{" not in piece and "}" not in piece)
    if pieces[0][0] in "-_+." or literal != literal.lower() or _FORBIDDEN.search(literal):
        return 'must be lower case, without any of \\ / * ? " < > | , # : or space, and not begin with - _ + .'
    return _template.problem(pieces)


def index_pattern(template: str) -> str:
    """The pattern that all names of this template fit: `mcp-logs-*`."""
    return re.sub(r"\*+", "*", PLACEHOLDER.sub("*", template))


def addresser(template: str) -> Template:
    """Gives each event of a batch its name, always one that Elasticsearch takes."""
    return Template(template, _safe_value, _safe, lambda name: cut(name, _LONGEST_NAME))


def _safe(text: str) -> str:
    return _FORBIDDEN.sub("_", text).lower()


def _safe_value(value: str) -> str:
    safe = _safe(value.strip()).encode("utf-8", "replace").decode()
    return cut(_FORBIDDEN.sub("_", safe), _LONGEST_VALUE) or UNKNOWN
