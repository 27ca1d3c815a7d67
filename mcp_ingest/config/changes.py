"""What a new configuration changes: compared by values, wherever they stand in the files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from mcp_ingest.config.model import ComponentConfig, Configuration, PipelineConfig

#: Settings that only a new start can change, by section.
FIXED = {"spool": ("directory", "ballast_bytes"), "log": ("file", "format")}
_PATHS = ("directory", "file")
_SECTIONS = ("spool", "http", "memory", "log")


@dataclass(frozen=True, slots=True)
class Difference:
    """Names of one kind: in the order of the new configuration, the removed ones in that of the old."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Changes:
    """All of it; `settings` are those of other sections, as `http.port`."""

    inputs: Difference
    pipelines: Difference
    outputs: Difference
    settings: tuple[str, ...] = ()

    def by_kind(self) -> dict[str, Difference]:
        """The named parts, by what they are."""
        return {"inputs": self.inputs, "pipelines": self.pipelines, "outputs": self.outputs}

    @property
    def nothing(self) -> bool:
        """Whether both say the same."""
        differences = self.by_kind().values()
        return not self.settings and not any(each.added or each.changed or each.removed for each in differences)


def compare(old: Configuration, new: Configuration) -> Changes:
    """What is different."""
    settings = [name for section in _SECTIONS for name in _settings(section, old, new)]
    both = [name for name in new.pipelines if name in old.pipelines]
    if both != [name for name in old.pipelines if name in new.pipelines]:
        settings.append("the order of the pipelines")
    settings += [name for name in ("reload_on_change", "workers") if getattr(old, name) != getattr(new, name)]
    return Changes(
        _difference(old.inputs, new.inputs, _component),
        _difference(old.pipelines, new.pipelines, _pipeline),
        _difference(old.outputs, new.outputs, _component),
        tuple(settings),
    )


def refusals(old: Configuration, new: Configuration) -> list[str]:
    """A sentence for each setting that a running daemon cannot change."""
    found = []
    for section, names in FIXED.items():
        for name in names:
            before, after = (getattr(getattr(each, section), name) for each in (old, new))
            if before != after and not (name in _PATHS and _is_one_place(before, after)):
                found.append(_refusal(f"{section}.{name}", before, after))
    if old.workers != new.workers:
        found.append(_refusal("workers", old.workers, new.workers))
    return found


def same_component(old: ComponentConfig | None, new: ComponentConfig) -> bool:
    """Whether both say the same, wherever they stand."""
    return old is not None and _component(old) == _component(new)


def _is_one_place(before: str | None, after: str | None) -> bool:
    """Whether both paths lead to the same place, however they are written."""
    return before is not None and after is not None and Path(before).resolve() == Path(after).resolve()


def _refusal(name: str, before: object, after: object) -> str:
    return f"{name}: a reload cannot change it from {before} to {after}; stop the daemon and start it again"


def _difference(old: Mapping[str, Any], new: Mapping[str, Any], essence: Any) -> Difference:
    both = [name for name in new if name in old]
    return Difference(
        _but(new, old),
        tuple(name for name in both if essence(old[name]) != essence(new[name])),
        _but(old, new),
        tuple(name for name in both if essence(old[name]) == essence(new[name])),
    )


def _but(names: Iterable[str], others: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(name for name in names if name not in others)


def _component(config: ComponentConfig) -> object:
    return config.name, config.type, config.settings


def _pipeline(config: PipelineConfig) -> object:
    return config.match, [_component(stage) for stage in config.stages], config.outputs


def _settings(section: str, old: Configuration, new: Configuration) -> list[str]:
    before, after = getattr(old, section), getattr(new, section)
    names = [field.name for field in msgspec.structs.fields(after)]
    return [f"{section}.{name}" for name in names if getattr(before, name) != getattr(after, name)]
