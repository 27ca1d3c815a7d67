"""Loops: a `tail` that would read what an output `file` writes, which doubles again and again without a line of log.

Nor is it to read our own log. The present one it knows, and rotated ones by their lines, if these are JSON.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from mcp_ingest.config.model import ComponentConfig, LogSettings

_FIELD = re.compile(r"\{[^{}]*\}")
_WILD = re.compile(r"[*?\[]")


def of(inputs: Mapping[str, ComponentConfig], outputs: Mapping[str, ComponentConfig]) -> Iterator[str]:
    """A sentence with its place for each input whose globs may match a file of an output."""
    for output in (each for each in outputs.values() if each.type == "file"):
        path = os.path.abspath(_FIELD.sub("*", output.settings.path))
        for each in (each for each in inputs.values() if each.type == "tail"):
            if _reads(each.settings.paths, each.settings.exclude, path):
                yield (
                    f"{each.place}: `{each.name}` may read what the output `{output.name}` writes, and feed it to "
                    f"itself without end: keep {output.settings.path} out of `paths`, or name it in `exclude`"
                )


def of_the_log(inputs: Mapping[str, ComponentConfig], log: LogSettings) -> Iterator[str]:
    """A sentence with its place for each input whose globs match what a rotated log in plain text would be called."""
    if log.file is None or log.format != "plain":
        return
    path = os.path.abspath(log.file)
    stem, ending = os.path.splitext(path)
    for each in (each for each in inputs.values() if each.type == "tail"):
        for rotated in (f"{path}.1", f"{path}-20260131", f"{stem}-20260131{ending}"):
            if _reads(each.settings.paths, each.settings.exclude, rotated):
                yield (
                    f"{each.place}: `{each.name}` would read our own log where that is rotated, as {rotated}: in plain "
                    "text it is not known again; name it in `exclude`, or set log.format to json"
                )
                break


def _reads(paths: Sequence[str], exclude: Sequence[str], path: str) -> bool:
    """Whether a file of this path, `*` for what is not known of it, may be followed."""
    name = path.rpartition("/")[2]
    if any(fnmatchcase(path if "/" in each else name, _absolute(each) if "/" in each else each) for each in exclude):
        return False
    return any(_may_meet(path.split("/"), _absolute(each).split("/")) for each in paths)


def _absolute(pattern: str) -> str:
    return os.path.abspath(os.path.expanduser(pattern))


def _may_meet(path: list[str], pattern: list[str]) -> bool:
    if not path or not pattern:
        return not path and all(each == "**" for each in pattern)
    if pattern[0] == "**":
        return any(_may_meet(path[count:], pattern[1:]) for count in range(len(path) + 1))
    return _is_alike(path[0], pattern[0]) and _may_meet(path[1:], pattern[1:])


def _is_alike(name: str, pattern: str) -> bool:
    """Whether there may be a name that both describe; where both have wildcards their ends decide."""
    if "*" not in name:
        return fnmatchcase(name, pattern)
    if _WILD.search(pattern) is None:
        return fnmatchcase(pattern, name)
    begin, end = _ends(name)
    other_begin, other_end = _ends(pattern)
    return _one_goes_on(begin, other_begin) and _one_goes_on(end[::-1], other_end[::-1])


def _ends(pattern: str) -> tuple[str, str]:
    """What stands before the first wildcard and behind the last."""
    return _WILD.split(pattern)[0], re.split(r"[*?\]]", pattern)[-1]


def _one_goes_on(one: str, other: str) -> bool:
    """Whether one of the two begins with the other."""
    return one.startswith(other) or other.startswith(one)
