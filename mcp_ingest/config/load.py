"""Loading a configuration: every mistake at once, each with its file, line and column.

Without a path: `./mcp-ingest.yaml`, then `/etc/mcp-ingest/mcp-ingest.yaml`, then the built-in one, whose output
is Elasticsearch where `ELASTICSEARCH_URL` is set, and else the embedded store. Values come from the environment
by `${NAME}`, `${NAME:-default}`, `${file:/run/secrets/x}`; a setting of which nothing is left counts as not
written.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping as Names
from pathlib import Path
from typing import TypeVar

import msgspec

import mcp_ingest
from mcp_ingest.component import Settings
from mcp_ingest.config import warnings
from mcp_ingest.config.convert import to_settings
from mcp_ingest.config.files import NAMED, Files
from mcp_ingest.config.graph import Graph
from mcp_ingest.config.model import (
    MOST_WORKERS,
    Configuration,
    HttpSettings,
    LogSettings,
    MemorySettings,
    PipelineConfig,
    Place,
)
from mcp_ingest.config.nodes import Mapping, Scalar, is_broken, is_empty, plain
from mcp_ingest.errors import ConfigError
from mcp_ingest.spool.model import SpoolSettings

DEFAULT_PATHS = ("mcp-ingest.yaml", "/etc/mcp-ingest/mcp-ingest.yaml")
BUILT_IN = Path(mcp_ingest.__file__).parent / "assets" / "builtin"

S = TypeVar("S", bound=Settings)


def load(path: str | None = None, environment: Names[str, str] = os.environ) -> Configuration:
    """The configuration of this file, or the first that there is; ConfigError names every mistake."""
    file, name = find_file(path, environment)
    return dataclasses.replace(_Loader(file, name, environment).whole(), given=path)


def load_pipelines(path: str, environment: Names[str, str] = os.environ) -> dict[str, PipelineConfig]:
    """Only the pipelines of a file, which need not name inputs or outputs; ConfigError names every mistake."""
    return _Loader(Path(path), path, environment).pipelines_alone()


def load_http(path: str | None, environment: Names[str, str] = os.environ) -> HttpSettings:
    """Where the daemon of this file serves its pages, whatever mistakes the rest of it has."""
    file, name = find_file(path, environment)
    return _Loader(file, name, environment).settings("http", HttpSettings)


def files_of(path: str | None, environment: Names[str, str] = os.environ) -> tuple[list[Path], list[Path]]:
    """The files that `load` reads, those with mistakes included, and the directories in which others may turn up."""
    files = Files(environment, lambda place, sentence: None)
    files.read(find_file(path, environment)[0])
    return sorted(files.read_already), sorted(files.directories)


def find_file(path: str | None, environment: Names[str, str]) -> tuple[Path, str]:
    """The file that `load` reads, and what it is called."""
    if path is not None:
        return Path(path), path
    for default in DEFAULT_PATHS:
        if Path(default).exists():
            return Path(default), default
    name = "elasticsearch" if environment.get("ELASTICSEARCH_URL") else "store"
    return BUILT_IN / f"{name}.yaml", f"built-in ({name})"


class _Loader:
    """Reads one configuration and gathers what is wrong with it."""

    def __init__(self, path: Path, name: str, environment: Names[str, str]) -> None:
        self.problems: dict[tuple[Place, str], None] = {}  # in order; what several readers find counts once
        self.path = path
        self.name = name
        self.files = Files(environment, self.report)
        self.files.read(path)
        self.graph = Graph(self.report)

    def report(self, place: Place, sentence: str) -> None:
        self.problems[place, sentence] = None

    def whole(self) -> Configuration:
        """All sections."""
        if not self.files.sections:
            self.raise_problems()  # something else than a configuration: that it has no inputs is no news
        output_section = self.section("outputs")
        outputs = self.graph.components("output", output_section)
        inputs = self.graph.components("input", self.section("inputs"))
        pipelines = self.graph.pipelines(self.section("pipelines"), list(output_section.entries))
        spool, http = self.settings("spool", SpoolSettings), self.settings("http", HttpSettings)
        memory, log = self.settings("memory", MemorySettings), self.settings("log", LogSettings)
        workers = self.workers()
        on_change = self.reload_on_change()
        self.complete()
        self.raise_problems()
        said = tuple(warnings.of(inputs, pipelines, outputs, spool, log))
        return Configuration(
            inputs, pipelines, outputs, spool, http, memory, log, workers, on_change, self.name, warnings=said
        )

    def pipelines_alone(self) -> dict[str, PipelineConfig]:
        """The section `pipelines`, whatever outputs it names."""
        pipelines = self.graph.pipelines(self.section("pipelines"), None)
        self.raise_problems()
        return pipelines

    def section(self, name: str) -> Mapping:
        """A section whose settings are named, empty where the files have none."""
        entry = self.files.sections.get(name)
        return entry.node if entry and isinstance(entry.node, Mapping) else Mapping(Place(str(self.path), 1, 1), {})

    def settings(self, name: str, kind: type[S]) -> S:
        """A section that is one set of settings; its defaults where it is not there or wrong (and reported)."""
        entry = self.files.sections.get(name)
        node = self.graph.settings(entry) if entry else None
        return (to_settings(node, kind, self.report) if node else None) or kind()

    def workers(self) -> int:
        """How many worker processes."""
        entry = self.files.sections.get("workers")
        if entry is None or is_empty(entry.node) or is_broken(entry.node):
            return 1
        value = entry.node.value if isinstance(entry.node, Scalar) else None
        if isinstance(value, bool) or not re.fullmatch(r"[1-9]\d{0,2}", str(value)) or int(str(value)) > MOST_WORKERS:
            self.report(entry.node.place, f"workers: must be a whole number from 1 to {MOST_WORKERS}")
            return 1
        return int(str(value))

    def reload_on_change(self) -> bool:
        """Whether the daemon reloads by itself when a file of the configuration changes."""
        entry = self.files.sections.get("reload_on_change")
        if entry is None or is_empty(entry.node) or is_broken(entry.node):
            return False
        try:
            return msgspec.convert(plain(entry.node), bool, strict=False)
        except msgspec.ValidationError:
            self.report(entry.node.place, "reload_on_change: must be true or false")
            return False

    def complete(self) -> None:
        """Report what no configuration can be without."""
        for name in () if self.files.incomplete else NAMED:
            entry = self.files.sections.get(name)
            if entry is None or (isinstance(entry.node, Mapping) and not entry.node.entries):
                self.report(entry.place if entry else Place(str(self.path), 1, 1), f"there are no {name}")

    def raise_problems(self) -> None:
        if self.problems:
            ordered = sorted(self.problems, key=lambda problem: problem[0])
            raise ConfigError([f"{place}: {sentence}" for place, sentence in ordered])
