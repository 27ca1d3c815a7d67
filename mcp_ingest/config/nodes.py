"""YAML text as a tree in which everything knows its place, strings with their variables put in.

Plain scalars mean what YAML 1.2 says (`no`, `on` and `12:30` are strings, `010` is ten), read by PyYAML's
`compose` for its marks. Variables go into scalars only, after parsing, so no value can become structure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from mcp_ingest.config.model import Place
from mcp_ingest.config.substitute import Variables

try:
    from yaml import CSafeLoader as Loader
except ImportError:  # a PyYAML that was built without libyaml
    from yaml import SafeLoader as Loader  # type: ignore[assignment]

#: Something that is wrong and where, in the order in which it was found.
Report = Callable[[Place, str], None]


@dataclass(slots=True)
class Node:
    """Something in the file."""

    place: Place


@dataclass(slots=True)
class Scalar(Node):
    """A value. `unset`: variables were put in and nothing came of it; `broken`: one of them is missing."""

    value: Any
    unset: bool = False
    broken: bool = False
    substituted: bool = False


@dataclass(slots=True)
class Sequence(Node):
    """A list."""

    items: list[Node]


@dataclass(slots=True)
class Entry:
    """A key of a mapping, its place, and its value."""

    name: str
    place: Place
    node: Node


@dataclass(slots=True)
class Mapping(Node):
    """A mapping; its keys are strings."""

    entries: dict[str, Entry]

    def without(self, *names: str) -> Mapping:
        """The same without these keys."""
        return Mapping(self.place, {k: e for k, e in self.entries.items() if k not in names})


def is_empty(node: Node) -> bool:
    """Whether nothing was written (`forward:`), or nothing came of the variables."""
    return is_unset(node) or (isinstance(node, Scalar) and node.value is None and not node.broken)


def is_unset(node: Node) -> bool:
    """Whether variables were put in and nothing came of it: as if it had not been written."""
    return isinstance(node, Scalar) and node.unset and not node.broken


def is_broken(node: Node) -> bool:
    """Whether a variable somewhere in it is missing, so that its value is not known."""
    match node:
        case Scalar():
            return node.broken
        case Sequence():
            return any(map(is_broken, node.items))
        case Mapping():
            return any(is_broken(entry.node) for entry in node.entries.values())
    return False


def plain(node: Node) -> Any:
    """The node as dicts, lists and scalars; what is unset is left out."""
    match node:
        case Mapping():
            entries = node.entries.items()
            return {name: plain(e.node) for name, e in entries if not is_unset(e.node)}
        case Sequence():
            return [plain(item) for item in node.items if not is_unset(item)]
        case Scalar():
            return None if node.unset else node.value
    raise TypeError(type(node))


def parse(text: str, file: str, variables: Variables | None, report: Report) -> Node | None:
    """The tree of a file; None where it is empty, a broken scalar where it is not YAML, which is reported.

    Without `variables` a `${` in it is just text.
    """
    try:
        root = yaml.compose(text, Loader=Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(file, mark.line + 1, mark.column + 1) if mark else Place(file, 1, 1)
        report(place, _syntax(error, text, place))
        return Scalar(place, None, broken=True)
    except yaml.YAMLError as error:  # a character that YAML does not allow
        line = text.count("\n", 0, getattr(error, "position", 0)) + 1
        place = Place(file, line, 1)
        report(place, f"not YAML: {getattr(error, 'reason', error)}")
        return Scalar(place, None, broken=True)
    return None if root is None else _Builder(file, variables, report).build(root)


def _syntax(error: yaml.MarkedYAMLError, text: str, place: Place) -> str:
    lines = text.splitlines()
    if place.line <= len(lines) and "\t" in lines[place.line - 1][: place.column]:
        return "not YAML: a tab; indent with spaces"
    context = f", {error.context}" if error.context else ""
    return f"not YAML: {error.problem}{context}"


class _Builder:
    """Makes the tree of one file."""

    def __init__(self, file: str, variables: Variables | None, report: Report) -> None:
        self.file = file
        self.variables = variables
        self.report = report
        self.open: set[int] = set()  # nodes that are being built: an alias of one of them has no end

    def build(self, node: yaml.Node) -> Node:
        place = self.place(node)
        if id(node) in self.open:
            self.report(place, "an alias inside of what it stands for")
            return Scalar(place, None, broken=True)
        self.open.add(id(node))
        try:
            match node:
                case yaml.MappingNode():
                    return self.mapping(node, place)
                case yaml.SequenceNode():
                    return Sequence(place, [self.build(item) for item in node.value])
                case _:
                    assert isinstance(node, yaml.ScalarNode)
                    return self.scalar(node, place)
        finally:
            self.open.discard(id(node))

    def place(self, node: yaml.Node) -> Place:
        return Place(self.file, node.start_mark.line + 1, node.start_mark.column + 1)

    def mapping(self, node: yaml.MappingNode, place: Place) -> Mapping:
        mapping = Mapping(place, {})
        for name, key, value in self.keys(node):
            here = self.place(key)
            if name in mapping.entries:
                self.report(here, f"`{name}` stands twice, first at line {mapping.entries[name].place.line}")
                self.build(value)
            else:
                mapping.entries[name] = Entry(name, here, self.build(value))
        return mapping

    def keys(self, node: yaml.MappingNode) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.report(self.place(key), "a key must be a string")
            elif key.value == "<<" and not key.style:
                self.report(self.place(key), "`<<` (merging mappings) is not supported: write the keys out")
            else:
                yield key.value, key, value

    def scalar(self, node: yaml.ScalarNode, place: Place) -> Scalar:
        if node.tag not in _KNOWN_TAGS and node.tag.startswith(("!", "tag:")):
            self.report(place, f"the YAML tag `{node.tag}` is not supported")
            return Scalar(place, None, broken=True)
        if not node.style and "${" not in node.value:
            return Scalar(place, _core(node.value))
        text = node.value
        if self.variables is None or "${" not in text:
            return Scalar(place, text)
        value, problems = self.variables.put_into(text)
        for problem in problems:
            self.report(place, problem)
        changed = value != text.replace("$${", "${")
        return Scalar(place, value, unset=changed and not value, broken=bool(problems), substituted=changed)


_KNOWN_TAGS = {
    f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "timestamp", "value", "merge")
}
_WORDS: dict[str, Any] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True,
    "false": False, "False": False, "FALSE": False,
    ".inf": float("inf"), "-.inf": float("-inf"), "+.inf": float("inf"), ".nan": float("nan"),
}  # fmt: skip
_INTEGER = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


def _core(text: str) -> Any:
    """What a plain scalar is by YAML 1.2's core schema."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _BASED.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text
