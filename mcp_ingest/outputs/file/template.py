"""Paths from a template such as `/var/log/archive/{tag}/{@timestamp:%Y-%m-%d}.ndjson.gz`, a batch at a time.

What an event says can never choose the folder: in a field's value `/` and control characters become `_`, dots at its
start too, and what is missing is `unknown`. Names are as long as a disk takes them, with the template's ending.
"""

from __future__ import annotations

import re

from mcp_ingest.outputs import _template
from mcp_ingest.outputs._template import UNKNOWN, Template, cut, parse

_UNSAFE = re.compile(r"[/\\\x00-\x1f\x7f]")
_LONGEST_VALUE, _LONGEST_NAME = 100, 255
_ENDING = 32  # bytes of a name that is too long which stay at its end: `.ndjson.gz`, a date


def template_problem(template: str) -> str | None:
    """What is wrong with a template, None if nothing is."""
    if not template or template.endswith("/"):
        return "must be the path of a file"
    return _template.problem(parse(template))


def folder(template: str) -> str:
    """The folder that all paths of this template lie under; "." for the current one."""
    return template.partition("{")[0].rpartition("/")[0] or ("/" if template.startswith("/") else ".")


def paths(template: str) -> Template:
    """Gives each event of a batch its path."""
    return Template(template, _safe, whole=_short)


def _safe(value: str) -> str:
    safe = _UNSAFE.sub("_", value.strip().encode("utf-8", "replace").decode())
    safe = re.sub(r"^\.+", lambda dots: "_" * len(dots[0]), safe)
    return cut(safe, _LONGEST_VALUE) or UNKNOWN


def _short(path: str) -> str:
    return "/".join(map(_short_name, path.split("/")))


def _short_name(name: str) -> str:
    raw = name.encode()
    if len(raw) <= _LONGEST_NAME:
        return name
    return cut(name, _LONGEST_NAME - _ENDING) + raw[-_ENDING:].decode("utf-8", "ignore")
