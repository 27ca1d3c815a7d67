"""The configuration's files as one tree: `include` merged, every name in one place only."""

from __future__ import annotations

from collections.abc import Mapping as Names
from pathlib import Path

from mcp_ingest.config.convert import did_you_mean
from mcp_ingest.config.model import Place
from mcp_ingest.config.nodes import Entry, Mapping, Node, Report, Scalar, Sequence, is_broken, is_empty, parse
from mcp_ingest.config.substitute import Variables

NAMED = ("inputs", "pipelines", "outputs")  # sections whose entries may come from several files
SECTIONS = (*NAMED, "spool", "http", "memory", "log", "workers", "reload_on_change", "include")


class Files:
    """Reads files one into another; an included one stands where `include` stands in the file."""

    def __init__(self, environment: Names[str, str], report: Report) -> None:
        self.variables = Variables(environment)
        self.report = report
        self.read_already: set[Path] = set()
        self.directories: set[Path] = set()  # in which a file that is included may turn up
        self.sections: dict[str, Entry] = {}
        self.incomplete = False  # a file could not be read: what is missing may stand in it

    def read(self, path: Path) -> None:
        """Merge a file and all that it includes into `sections`."""
        resolved = path.resolve()
        if resolved in self.read_already:
            return
        self.read_already.add(resolved)
        start = Place(str(path), 1, 1)
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            self.missing(start, f"cannot be read: {error.strerror}")
            return
        except UnicodeDecodeError:
            self.missing(start, "is not UTF-8")
            return
        root = parse(text, str(path), self.variables, self.report)
        if isinstance(root, Mapping):
            for entry in root.entries.values():
                self.section(entry, path)
        elif root is not None and is_broken(root):
            self.incomplete = True
        elif root is not None and not is_empty(root):
            self.report(root.place, f"must be a mapping of {', '.join(SECTIONS)}")

    def missing(self, place: Place, sentence: str) -> None:
        """Report something for which a part of the configuration is not known."""
        self.incomplete = True
        self.report(place, sentence)

    def section(self, entry: Entry, path: Path) -> None:
        """Merge one section of a file."""
        if entry.name == "include":
            self.include(entry.node, path)
        elif entry.name not in SECTIONS:
            self.report(entry.place, f"`{entry.name}` is no section{did_you_mean(entry.name, SECTIONS)}")
        elif entry.name not in NAMED:
            self.add(self.sections, entry)
        elif isinstance(entry.node, Mapping):
            new = Entry(entry.name, entry.place, Mapping(entry.node.place, {}))
            here = self.sections.setdefault(entry.name, new).node
            if isinstance(here, Mapping):  # else it was wrong in another file, and is reported
                for named in entry.node.entries.values():
                    self.add(here.entries, named)
        elif not is_empty(entry.node):
            self.report(entry.node.place, f"`{entry.name}` must be a mapping of names to settings")
            self.sections[entry.name] = entry

    def add(self, entries: dict[str, Entry], entry: Entry) -> None:
        """Add an entry whose name no other file may have given."""
        if entry.name in entries:
            self.report(entry.place, f"`{entry.name}` stands at {entries[entry.name].place} already")
        else:
            entries[entry.name] = entry

    def include(self, node: Node, path: Path) -> None:
        """Read the files that the patterns name, relative to the file that includes, in the order of their names."""
        for item in node.items if isinstance(node, Sequence) else [node]:
            if is_empty(item) or is_broken(item):
                self.incomplete |= is_broken(item)
                continue
            if not isinstance(item, Scalar) or not isinstance(item.value, str):
                self.report(item.place, "`include` takes paths of files, `*` in them is allowed")
                continue
            self.directories.add(_directory(path.parent, item.value))
            found = _matching(path.parent, item.value)
            if not found and not any(sign in item.value for sign in "*?["):
                self.missing(item.place, f"there is no file {path.parent / item.value}")
            for other in found:
                self.read(other)


def _matching(folder: Path, pattern: str) -> list[Path]:
    if not any(sign in pattern for sign in "*?["):
        return [folder / pattern] if (folder / pattern).is_file() else []
    path = Path(pattern)
    if path.is_absolute():
        folder, pattern = Path(path.anchor), str(path.relative_to(path.anchor))
    try:
        return sorted(match for match in folder.glob(pattern) if match.is_file() and not _is_test(match))
    except (ValueError, NotImplementedError):
        return []


def _directory(folder: Path, pattern: str) -> Path:
    """The one in which a file that fits may turn up, or the directory that it stands in."""
    directory = (folder / pattern).parent
    while any(sign in str(directory) for sign in "*?["):
        directory = directory.parent
    return directory


def _is_test(path: Path) -> bool:
    return path.name.endswith((".test.yaml", ".test.yml"))
