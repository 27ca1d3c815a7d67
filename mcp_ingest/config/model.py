"""A configuration as the engine takes it: every component found, every setting checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from mcp_ingest.component import ByteSize, Kind, Settings
from mcp_ingest.spool.model import SpoolSettings

LEAST_IN_FLIGHT = 16 * 2**20  # two small reads and a slice of a frame, decoded


class Place(NamedTuple):
    """Where something stands: file, line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class HttpSettings(Settings):
    """Where metrics, health and status are served."""

    host: Annotated[str, Meta(description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="Port; 0 takes a free one.")] = 24231
    token: Annotated[
        str | None,
        Meta(description="What all but metrics and health ask for, as a bearer token, when not on loopback."),
    ] = None


class MemorySettings(Settings):
    """How much may be on its way from the sockets and files to the spool."""

    max_in_flight: Annotated[
        ByteSize,
        Meta(description="Bytes of events in memory on their way to the spool; a frame that is larger passes alone."),
    ] = msgspec.field(default_factory=lambda: ByteSize(256 * 2**20))

    def check(self) -> list[str]:
        """Less than a slice of a frame would let everything pass alone."""
        least = LEAST_IN_FLIGHT
        return [f"max_in_flight: must be at least {least // 2**20}MiB"] if self.max_in_flight < least else []


class LogSettings(Settings):
    """The daemon's own log."""

    level: Annotated[Literal["debug", "info", "warning", "error"], Meta(description="The least level written.")] = (
        "info"
    )
    format: Annotated[
        Literal["auto", "plain", "json"], Meta(description="`auto`: plain on a terminal, JSON elsewhere.")
    ] = "auto"
    file: Annotated[str | None, Meta(description="Written to this file instead of standard error.")] = None


@dataclass(frozen=True, slots=True)
class ComponentConfig:
    """One input, stage or output: its name in the graph, its type, its checked settings."""

    kind: Kind
    name: str
    type: str
    settings: Any  # an instance of the component's Config
    place: Place


@dataclass(frozen=True, slots=True)
class PipelineConfig:
    """A pipeline: the tag patterns it takes, its stages in order, the outputs that its events go to."""

    name: str
    match: tuple[str, ...]
    stages: tuple[ComponentConfig, ...]
    outputs: tuple[str, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Configuration:
    """All of it, without a mistake in it; `warnings` are what `check` says of one that runs all the same.

    `path` is what it is called, `given` the file that was asked for: None where it was looked for.
    """

    inputs: dict[str, ComponentConfig] = field(default_factory=dict)
    pipelines: dict[str, PipelineConfig] = field(default_factory=dict)
    outputs: dict[str, ComponentConfig] = field(default_factory=dict)
    spool: SpoolSettings = field(default_factory=SpoolSettings)
    http: HttpSettings = field(default_factory=HttpSettings)
    memory: MemorySettings = field(default_factory=MemorySettings)
    log: LogSettings = field(default_factory=LogSettings)
    workers: int = 1
    reload_on_change: bool = False
    path: str = "built-in"
    given: str | None = None
    warnings: tuple[str, ...] = ()
