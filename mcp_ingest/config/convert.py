"""A node of the file as settings: every field by itself, so that each mistake is reported at its own place."""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from mcp_ingest.component import ByteSize, Duration, Settings
from mcp_ingest.config.model import Place
from mcp_ingest.config.nodes import Entry, Mapping, Node, Report, Scalar, Sequence, is_broken, is_unset, plain

S = TypeVar("S", bound=Settings)


def to_settings(node: Mapping, settings: type[S], report: Report) -> S | None:
    """The settings that the mapping gives; None where something is wrong, all of which is reported."""
    search = _Search(report)
    try:
        result = None if is_broken(node) else _convert(node, settings)
    except msgspec.ValidationError:
        result = None
    if result is None:
        search.struct(node, settings, "")
        return None
    search.check(node, result)
    return None if search.count else result


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a sentence that offers the nearest of the known names; empty where none is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" — did you mean `{near[0]}`?" if near else ""


def _convert(node: Node, kind: Any) -> Any:
    return msgspec.convert(plain(node), kind, strict=False, dec_hook=_decode)


def _decode(kind: type[Any], value: Any) -> Any:
    if kind in (ByteSize, Duration):
        return kind.parse(value)
    raise NotImplementedError(kind)


def _field(node: Node, sentence: str) -> Place:
    """The place of the field with whose name (`tls.certificate: …`) the sentence begins."""
    for name in sentence.partition(":")[0].strip().split("."):
        if not isinstance(node, Mapping) or name not in node.entries:
            break
        node = node.entries[name].node
    return node.place


class _Search:
    """Looks for every mistake in a node: in its shape when it could not be converted, else by `check`."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.count = 0

    def check(self, node: Node, value: Any) -> None:
        """Ask the settings, and all settings inside of them, what is wrong across fields."""
        match node:
            case Sequence() if isinstance(value, list | tuple):
                written = [item for item in node.items if not is_unset(item)]
                for item, part in zip(written, value, strict=False):
                    self.check(item, part)
            case Mapping() if isinstance(value, dict | msgspec.Struct):
                for name, entry in node.entries.items():
                    part = value.get(name) if isinstance(value, dict) else getattr(value, name, None)
                    self.check(entry.node, part)
                for sentence in value.check() if isinstance(value, Settings) else []:
                    self.count += 1
                    self.report(_field(node, sentence), sentence)

    def say(self, node: Node | Entry, sentence: str) -> None:
        self.count += 1
        self.report(node.place, sentence)

    def struct(self, node: Mapping, kind: type[msgspec.Struct], path: str) -> None:
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        for name, entry in node.entries.items():
            if name not in fields:
                self.say(entry, f"`{_join(path, name)}` is no setting{did_you_mean(name, fields)}")
            elif not is_unset(entry.node):
                self.value(entry.node, fields[name].type, _join(path, name))
        for name, field in fields.items():
            if field.required and (name not in node.entries or is_unset(node.entries[name].node)):
                self.say(node, f"`{_join(path, name)}` is missing")

    def value(self, node: Node, kind: Any, path: str) -> None:
        if is_broken(node) and isinstance(node, Scalar):
            return  # reported where the variable was looked for
        if not is_broken(node):
            try:
                _convert(node, kind)
            except msgspec.ValidationError as error:
                reason = str(error)
            else:
                return
        else:
            reason = ""
        before = self.count
        self.inside(node, _candidates(kind, node), path)
        if self.count == before and reason:
            self.say(node, f"{path}: {_sentence(reason, node, kind)}")

    def inside(self, node: Node, kind: Any, path: str) -> None:
        """Look into the mapping or list for what the type says of its parts."""
        arguments = typing.get_args(kind)
        match node:
            case Mapping() if _is_struct(kind):
                self.struct(node, kind, path)
            case Mapping() if typing.get_origin(kind) is dict:
                for name, entry in node.entries.items():
                    self.value(entry.node, arguments[1], _join(path, name))
            case Sequence() if arguments and (len(arguments) == 1 or arguments[1] is Ellipsis):
                for index, item in enumerate(node.items):
                    self.value(item, arguments[0], f"{path}[{index}]")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _candidates(kind: Any, node: Node) -> Any:
    """The one type of a union that a mapping or a list can be meant for; the type itself where it is no union."""
    while typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    if typing.get_origin(kind) not in (typing.Union, types.UnionType):
        return kind
    wanted = [_candidates(option, node) for option in typing.get_args(kind)]
    if isinstance(node, Mapping):
        wanted = [k for k in wanted if typing.get_origin(k) is dict or (_is_struct(k))]
    else:
        wanted = [k for k in wanted if typing.get_origin(k) in (list, tuple, set, frozenset)]
    return wanted[0] if len(wanted) == 1 else None


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


_WORDS = {"array": "list", "object": "mapping", "str": "string", "null": "nothing"}


def _in_words(types_named: re.Match[str]) -> str:
    return re.sub(r"\w+", lambda word: _WORDS.get(word[0], word[0]), types_named[0])


def _sentence(reason: str, node: Node, kind: Any) -> str:
    """msgspec's reason in the words of the file; what a variable holds may be a secret and is not named."""
    reason = reason.partition(" - at `")[0]
    secret = isinstance(node, Scalar) and node.substituted
    if reason.startswith("Invalid enum value"):
        options = [str(option) for option in _literals(kind)]
        if secret:
            return f"what its variable holds is none of {', '.join(options)}"
        return f"{plain(node)!r} is none of {', '.join(options)}{did_you_mean(str(plain(node)), options)}"
    if secret and str(plain(node)) in reason:
        return "what its variable holds does not fit here"
    reason = re.sub(r"`[^`]*`", _in_words, reason)
    if "Expected `string`, got `" in reason and isinstance(node, Scalar):
        reason += "; put it in quotes"
    return reason[:1].lower() + reason[1:] if reason.startswith(("Expected", "Object")) else reason


def _literals(kind: Any) -> list[Any]:
    if typing.get_origin(kind) is typing.Literal:
        return list(typing.get_args(kind))
    return [option for part in typing.get_args(kind) for option in _literals(part)]
