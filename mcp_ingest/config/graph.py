"""Inputs, pipelines and outputs out of the tree: every component found, every reference followed."""

from __future__ import annotations

import re
from typing import Any

from mcp_ingest.component import Kind, find, names
from mcp_ingest.config import tags
from mcp_ingest.config.convert import did_you_mean, to_settings
from mcp_ingest.config.model import ComponentConfig, PipelineConfig, Place
from mcp_ingest.config.nodes import Entry, Mapping, Node, Report, Scalar, Sequence, is_broken, is_empty
from mcp_ingest.event import OURS

_PIPELINE_KEYS = ("match", "stages", "outputs")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class Graph:
    """Builds the configuration's parts from the entries of their sections; what is wrong is reported."""

    def __init__(self, report: Report) -> None:
        self.report = report

    def components(self, kind: Kind, section: Mapping) -> dict[str, ComponentConfig]:
        """The inputs or the outputs: NAME with its settings, `type` defaulting to NAME."""
        found = {}
        for name, entry in section.entries.items():
            self.name(entry)
            if kind == "input" and name == OURS:
                self.report(entry.place, f"an input cannot be called `{OURS}`: that stands for what it makes itself")
            settings = self.settings(entry)
            if settings is None:
                continue
            type_entry = settings.entries.get("type")
            type_name, place = name, entry.place
            if type_entry and not is_empty(type_entry.node):
                if is_broken(type_entry.node):
                    continue
                type_name, place = str(_text(type_entry.node)), type_entry.node.place
            component = self.component(kind, name, type_name, settings.without("type"), place)
            if component is not None:
                found[name] = component
        return found

    def component(self, kind: Kind, name: str, type_name: str, node: Mapping, place: Place) -> ComponentConfig | None:
        """One component with its settings checked; None where something is wrong with it."""
        factory = self.find(kind, type_name, place)
        if factory is None:
            return None
        try:
            settings = to_settings(node, factory.Config, self.report)
        except Exception as error:  # the component's own fault, which is said instead of a traceback
            self.report(place, f"the settings of the {kind} `{type_name}` cannot be checked: {error}")
            return None
        return None if settings is None else ComponentConfig(kind, name, type_name, settings, place)

    def find(self, kind: Kind, type_name: str, place: Place) -> Any:
        """The component's class; None where there is none of this name, or it cannot be loaded."""
        try:
            return find(kind, type_name)
        except Exception as error:  # a package that is not installed, or a component of somebody else's
            if type_name in (known := names(kind)):
                self.report(place, f"the {kind} `{type_name}` cannot be loaded: {error}")
            else:
                near = did_you_mean(type_name, known) or f"; there are {', '.join(known)}"
                self.report(place, f"there is no {kind} of the type `{type_name}`{near}")
            return None

    def pipelines(self, section: Mapping, outputs: list[str] | None) -> dict[str, PipelineConfig]:
        """The pipelines in order; `outputs` are the names that exist, None where that is not to be asked."""
        found = {}
        for name, entry in section.entries.items():
            self.name(entry)
            settings = self.settings(entry)
            if settings is None:
                continue
            for key in settings.entries.values():
                if key.name not in _PIPELINE_KEYS:
                    near = did_you_mean(key.name, _PIPELINE_KEYS)
                    self.report(key.place, f"`{key.name}` is no setting of a pipeline{near}")
            match = self.match(settings, entry)
            stages = self.stages(settings)
            found[name] = PipelineConfig(name, match, stages, self.targets(settings, outputs), entry.place)
        self.reachable(found)
        return found

    def match(self, settings: Mapping, pipeline: Entry) -> tuple[str, ...]:
        """The tag patterns of a pipeline."""
        entry = settings.entries.get("match")
        if entry is None or is_empty(entry.node):
            self.report(pipeline.place, '`match` is missing: the tags that the pipeline takes, as in `match: "mcp.**"`')
            return ()
        patterns = []
        for text, place in self.strings(entry.node, "match"):
            try:
                tags.compile_patterns([text])
            except ValueError as error:
                self.report(place, f"match: {error}")
            else:
                patterns.append(text)
        return tuple(tags.split(patterns))

    def stages(self, settings: Mapping) -> tuple[ComponentConfig, ...]:
        """The stages in order: `name` or `{name: settings}`; a repeated type gets `-2`, `-3` behind its name."""
        entry = settings.entries.get("stages")
        if entry is None or is_empty(entry.node):
            return ()
        if not isinstance(entry.node, Sequence):
            self.report(entry.node.place, "`stages` must be a list: `- parse_json: {field: message}`")
            return ()
        found: list[ComponentConfig] = []
        count: dict[str, int] = {}
        for item in entry.node.items:
            named = self.stage(item)
            if named is None:
                continue
            type_name = named.name
            count[type_name] = number = count.get(type_name, 0) + 1
            name = type_name if number == 1 else f"{type_name}-{number}"
            node = self.settings(named)
            if node and (stage := self.component("stage", name, type_name, node, named.place)):
                found.append(stage)
        return tuple(found)

    def stage(self, item: Node) -> Entry | None:
        """A list item's type and settings."""
        match item:
            case Scalar(value=str() as type_name) if not is_broken(item):
                return Entry(type_name, item.place, Mapping(item.place, {}))
            case Mapping(entries=entries) if len(entries) == 1:
                return next(iter(entries.values()))
            case Mapping(entries=entries) if entries:
                names_there = ", ".join(f"`{name}`" for name in entries)
                self.report(item.place, f"a stage has one name, here are {names_there}: indent what belongs to it")
            case _ if not is_broken(item):
                self.report(item.place, "a stage is a name, or a name and its settings: `- drop: {when: …}`")
        return None

    def targets(self, settings: Mapping, known: list[str] | None) -> tuple[str, ...]:
        """The outputs of a pipeline: all where it names none."""
        entry = settings.entries.get("outputs")
        if entry is None or is_empty(entry.node):
            return tuple(known or ())
        chosen: list[str] = []
        for name, place in self.strings(entry.node, "outputs"):
            if known is not None and name not in known:
                near = did_you_mean(name, known) or (known and f"; there are {', '.join(known)}") or ""
                self.report(place, f"there is no output `{name}`{near}")
            elif name in chosen:
                self.report(place, f"the output `{name}` stands twice")
            else:
                chosen.append(name)
        return tuple(chosen)

    def reachable(self, pipelines: dict[str, PipelineConfig]) -> None:
        """Report each pipeline to which the ones before it leave nothing."""
        before: list[PipelineConfig] = []
        for pipeline in pipelines.values():
            if pipeline.match and before:
                patterns = [pattern for other in before for pattern in other.match]
                if tags.covered(pipeline.match, patterns):
                    takers = " and ".join(f"`{other.name}`" for other in _takers(pipeline, before))
                    self.report(
                        pipeline.place,
                        f"pipeline `{pipeline.name}` gets nothing: {takers} before it takes every such tag",
                    )
            if pipeline.match:
                before.append(pipeline)

    def settings(self, entry: Entry) -> Mapping | None:
        """The entry's settings; nothing written means the defaults."""
        if isinstance(entry.node, Mapping):
            return entry.node
        if is_empty(entry.node):
            return Mapping(entry.place, {})
        if not is_broken(entry.node):
            self.report(entry.node.place, f"the settings of `{entry.name}` must be a mapping")
        return None

    def strings(self, node: Node, field: str) -> list[tuple[str, Place]]:
        """A string, or the strings of a list, each with its place."""
        found = []
        for item in node.items if isinstance(node, Sequence) else [node]:
            text = _text(item)
            if text is not None:
                found.append((text, item.place))
            elif not is_broken(item):
                self.report(item.place, f"`{field}` must be a string or a list of strings")
        return found

    def name(self, entry: Entry) -> None:
        """Names are labels of metrics and stand in paths."""
        if not _NAME.fullmatch(entry.name):
            self.report(entry.place, f"`{entry.name}` is no name: letters, digits, `_`, `-` and `.`")


def _text(node: Node) -> str | None:
    return node.value if isinstance(node, Scalar) and isinstance(node.value, str) and not node.broken else None


def _takers(pipeline: PipelineConfig, before: list[PipelineConfig]) -> list[PipelineConfig]:
    """The one pipeline that takes everything by itself, or else all that stand before."""
    alone = [other for other in before if tags.covered(pipeline.match, other.match)]
    return alone[:1] or before
