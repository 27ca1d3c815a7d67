"""What every part of a configuration is: a `Component` with its settings and examples, found by its file's name.

A file `stages/redact.py` holds one public class derived from `Stage`; that is its whole registration. Packages
outside add theirs through the entry-point groups `mcp_ingest.inputs`, `mcp_ingest.stages`, `mcp_ingest.outputs`.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol, cast

import msgspec
from msgspec import Meta

from mcp_ingest.context import Context
from mcp_ingest.errors import IngestError
from mcp_ingest.event import Batch, Event, Progress, Record, Term
from mcp_ingest.verdict import Request, Verdicts

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints

Kind = Literal["input", "stage", "output"]
Sharing = Literal["ports", "items", "one"]
OnError = Literal["dead_letter", "keep", "drop"]
LEAST_BACKLOG = 64 * 1024  # a chunk or two


# --- settings ----------------------------------------------------------------------------------------------


class ByteSize(int):
    """A number of bytes, written `1048576`, `512KiB`, `8GiB`, `5MB`."""

    _UNITS: ClassVar[dict[str, int]] = {
        "": 1, "b": 1,
        "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
        "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
        "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40,
    }  # fmt: skip

    @classmethod
    def parse(cls, text: object) -> ByteSize:
        """The size that `text` (or a plain number) says; ValueError with the accepted forms otherwise."""
        match = re.fullmatch(r"\s*([\d_]+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", str(text))
        if match is None or match[2].lower() not in cls._UNITS:
            raise ValueError(f"{text!r} is not a size: write bytes, or a number with KiB, MiB, GiB, KB, MB, GB")
        return cls(float(match[1]) * cls._UNITS[match[2].lower()])


class Duration(float):
    """A time span in seconds, written `30`, `500ms`, `10s`, `5m`, `2h`, `7d`."""

    _UNITS: ClassVar[dict[str, float]] = {"": 1, "ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}

    @classmethod
    def parse(cls, text: object) -> Duration:
        """The seconds that `text` (or a plain number) says; ValueError with the accepted forms otherwise."""
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", str(text))
        if match is None or match[2] not in cls._UNITS:
            raise ValueError(f"{text!r} is not a duration: write seconds, or a number with ms, s, m, h, d, w")
        return cls(float(match[1]) * cls._UNITS[match[2]])


class FromFile(str):
    """A setting that was read from files by `${file:…}`: a string like any other, which can be read again.

    What it holds may be a secret: its `repr` does not show it.
    """

    files: tuple[str, ...]
    _read: Callable[[], str | None]
    _last: str

    def __new__(cls, value: str, files: Sequence[str], read: Callable[[], str | None]) -> FromFile:
        """`read` gives the value as `files` have it then, None while one of them cannot be read."""
        made = super().__new__(cls, value)
        made.files = tuple(files)
        made._read = read
        made._last = str(made)
        return made

    def now(self) -> str:
        """What stands in the files now; where they cannot be read what stood there before."""
        value = self._read()
        if value is not None:
            self._last = value
        return self._last

    def __repr__(self) -> str:
        return f"FromFile({', '.join(self.files)})"


class Settings(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The base of every component's `Config`.

    Each field is `Annotated[type, Meta(description=…)]`. Fields of the types `ByteSize` and `Duration` take
    their defaults by `msgspec.field(default_factory=…)`. What the types cannot say goes into `check`.
    """

    def check(self) -> list[str]:
        """What is wrong across fields, a sentence each, beginning with the field's name and a colon."""
        return []


class StageSettings(Settings):
    """The base of every stage's `Config`: `on_error` is the same for all."""

    on_error: OnError = "dead_letter"


class OutputSettings(Settings):
    """The base of every output's `Config`: what it may hold up, and how large and long its requests may be."""

    best_effort: Annotated[
        bool, Meta(description="Let its oldest events go, counted, rather than make an input wait for it.")
    ] = False
    max_backlog: Annotated[
        ByteSize | None,
        Meta(
            description="Bytes in the spool that it may owe. Above that a `best_effort` one lets go of its oldest, "
            "for any other `when_full` applies. Without it only the spool's `max_bytes` counts."
        ),
    ] = None
    max_request_bytes: Annotated[
        ByteSize | None, Meta(description="Events' bytes in one request at the most; what suits the output.")
    ] = None
    request_seconds: Annotated[
        Duration | None, Meta(description="Time after which a request is given up and repeated; what suits the output.")
    ] = None

    def check(self) -> list[str]:
        """Bounds with which nothing could be delivered; who overrides this asks this, too."""
        problems = []
        if self.max_backlog is not None and self.max_backlog < LEAST_BACKLOG:
            problems.append(f"max_backlog: must be at least {LEAST_BACKLOG // 1024}KiB")
        if self.max_request_bytes is not None and self.max_request_bytes < 1:
            problems.append("max_request_bytes: must be more than 0")
        if self.request_seconds is not None and self.request_seconds <= 0:
            problems.append("request_seconds: must be more than 0")
        return problems


@dataclass(frozen=True, slots=True)
class Example:
    """A test that the docs print: `config` as in YAML, what goes in and what must come out.

    For a stage, `given` and `expected` are records (or lists of them; an event taken out is absent, a failed
    one stands in `failed` as part of its reason). For inputs and outputs only `config` is checked.
    """

    title: str
    config: dict[str, Any]
    given: Any = None
    expected: Any = None
    failed: Sequence[str] = ()
    tag: str = "mcp.example"
    time: int = 0


class Component(ABC):  # noqa: B024  its three kinds have the abstract methods
    """A part of the graph: built from its checked settings and what its `Context` hands it."""

    Config: ClassVar[type[Settings]] = Settings
    EXAMPLES: ClassVar[Sequence[Example]] = ()

    def __init__(self, config: Any, context: Context) -> None:
        self.config = config
        self.context = context


# --- the three kinds ---------------------------------------------------------------------------------------


class Emit(Protocol):
    """Hand a batch to the engine.

    Returns when all that the batch brought, over all its pipelines, and its progress are one durable commit;
    then the input acknowledges. Waiting long is backpressure. Raises `SpoolError` when the commit failed, its
    `SpoolFullError` when `when_full: reject` refuses the batch (HTTP 429: come again later), and
    `StreamBrokenError` for every later emit of that stream. A cancelled emit may still commit.
    """

    async def __call__(self, batch: Batch, progress: Progress | None = None) -> None:
        """See the class."""


class Input(Component):
    """Owns a socket or a file; calls a codec, builds batches, awaits `emit`, then acknowledges.

    What several workers do with an input, its `sharing` says: with `ports` all of them listen, on
    `context.share.port(context.name, config.port)` and with SO_REUSEPORT where `context.share.several`; with `items`
    each takes what `context.share` says is its own and keeps a position for it, which stays with its spool; `one` is
    run by worker 0 alone.
    """

    sharing: ClassVar[Sharing] = "one"
    #: What it listens with on `config.host` and `config.port`, where its sharing is `ports`.
    protocols: ClassVar[tuple[Literal["tcp", "udp"], ...]] = ()

    #: Another one of its name may start while it still runs: it keeps no positions.
    overlaps: ClassVar[bool] = False
    #: It reads at its own pace (files, a broker) and nobody waits for its answer: with `when_full: reject` its emits
    #: wait for room, those of others raise `SpoolFullError`.
    pulls: ClassVar[bool] = False

    @abstractmethod
    async def run(self, emit: Emit) -> None:
        """Live until cancelled; call `context.ready(where)` once the socket is open or the first scan done.

        On cancellation stop taking in at once, wait for the emits under way, acknowledge them, and leave.
        """

    def change_to(self, config: Any) -> Callable[[], None] | None:
        """What makes it go on with these settings while it runs; the engine calls that between two turns.

        None where it must be started anew: then the old one ends before the new one runs, or, where both `overlap`,
        behind its start.
        """
        return None

    def place_of(self, prefix: bytes, position: int) -> str | None:
        """Where the event with this id (15 bytes, a position) came from, in words; None: not from here, or unknown."""
        return None

    def prefix_of(self, name: str, tag: str | None, peer: str | None) -> bytes | None:
        """How the ids (15 bytes) of the events begin that came under this name, such as a forward chunk's id.

        None: nothing here comes under a name. ValueError: tag or the sender's address is needed to tell.
        """
        return None


class Stage(Component):
    """Changes a batch in one synchronous pass, without I/O.

    `apply` computes first and assigns last. When it raises, the engine applies it to each event alone, and
    the events on which it still raises meet `on_error`; so it must leave the batch such that it can be
    applied again. Events it takes out go by `Batch.keep` or `Batch.fail`; what it counts goes into
    `batch.outcome.effects`, which the engine calls once, after the commit.
    """

    Config: ClassVar[type[Settings]] = StageSettings
    #: Behind this stage `Batch.serialised` still holds: it changes no record, or empties the entries of those that it
    #: changes. Where this is False the engine forgets the column.
    keeps_serialised: ClassVar[bool] = False

    @abstractmethod
    def apply(self, batch: Batch) -> Batch:
        """The batch, changed in place or anew."""

    def mask(self, record: Record) -> Record:
        """The record as this stage's masking rules leave it, without exemptions: for dead letters.

        Stages without such rules return it as it is; one that masks may raise, then nothing is kept.
        """
        return record


def for_each_event(function: Callable[[Any, Event], Event | None]) -> Callable[[Any, Batch], Batch]:
    """Make `apply` from a function of one event: it may change it; to refuse it, it raises (`StageError`).

    The function must compute first and assign last: an event on which it raises is as it was.
    """

    @functools.wraps(function)
    def apply(stage: Stage, batch: Batch) -> Batch:
        errors: dict[int, BaseException] = {}
        for index, event in enumerate(batch):
            try:
                function(stage, event)
            except Exception as error:  # whatever the event brought it to, its neighbours go on
                errors[index] = error
        return on_error(stage, batch, errors)

    return apply


def on_error(stage: Stage, batch: Batch, errors: dict[int, BaseException]) -> Batch:
    """Let the events at these indices meet the stage's `on_error`."""
    if not errors:
        return batch
    name = stage.context.name
    match stage.config.on_error:
        case "keep":
            for index, error in errors.items():
                batch.records[index]["pipeline_error"] = f"{name}: {error}"
                if batch.serialised is not None:
                    batch.serialised[index] = b""
        case "drop":
            batch.keep([i not in errors for i in range(len(batch))], Term.DROPPED, f"{name}: on_error")
        case _:
            batch.fail(errors, name)
    return batch


class Output(Component):
    """Sends and answers with verdicts; it never waits, retries or logs: that is delivery's."""

    Config: ClassVar[type[Settings]] = OutputSettings
    #: A request has all of a chunk's events for one destination, under the chunk's name, or none: for outputs that
    #: replace and so never double. The same chunk may come again for another destination.
    whole_chunks: ClassVar[bool] = False
    #: What is addressed to it counts as delivered with its commit, and is never written: nothing is serialised or
    #: held for it.
    holds_nothing: ClassVar[bool] = False
    #: Whether latency that grows is a sign of a busy peer: delivery then has fewer requests in flight.
    latency_tells_load: ClassVar[bool] = True
    #: Requests in flight at the most, and bytes in one request at the most: of lines, uncompressed, and what
    #: `bytes_beside` says.
    concurrency: int = 4
    max_request_bytes: int = 5_000_000
    max_request_events: int = 10_000
    #: Seconds after which a request counts as `Unknown` and is cancelled.
    deadline: float = 60.0

    def __init__(self, config: Any, context: Context) -> None:
        super().__init__(config, context)
        if getattr(config, "max_request_bytes", None) is not None:
            self.max_request_bytes = config.max_request_bytes
        if getattr(config, "request_seconds", None) is not None:
            self.deadline = config.request_seconds

    async def start(self) -> None:
        """Make ready (connect, install a template); `OutputError` says why not, and is tried again."""

    @abstractmethod
    def address(self, batch: Batch) -> list[str]:
        """Where each event goes (index, path, key), settled at commit time; `times` are the events' own by then.

        An output with a single place returns the same string for all.
        """

    def bytes_beside(self, destination: str) -> int:
        """Bytes of a request that each event for this destination has beside its line: an action, line ends."""
        return 0

    @abstractmethod
    async def write(self, request: Request) -> Verdicts:
        """Send the request once; raises nothing that the peer can cause."""

    async def close(self) -> None:
        """Let go of connections and files; what was answered is safe."""


# --- finding them ------------------------------------------------------------------------------------------

_PACKAGES: dict[Kind, str] = {"input": "inputs", "stage": "stages", "output": "outputs"}
_BASES: dict[Kind, type[Component]] = {"input": Input, "stage": Stage, "output": Output}


def names(kind: Kind) -> list[str]:
    """Every name that the configuration may use for this kind."""
    package = importlib.import_module(f"mcp_ingest.{_PACKAGES[kind]}")
    own = [m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_")]
    others = [e.name for e in _entry_points(kind)]
    return sorted({*own, *others})


@functools.cache
def find(kind: Kind, name: str) -> type[Any]:
    """The component class of that name; KeyError if there is none."""
    group = f"mcp_ingest.{_PACKAGES[kind]}"
    try:
        module = importlib.import_module(f"{group}.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"{group}.{name}":
            raise
        for entry in _entry_points(kind):
            if entry.name == name:
                return _component(kind, entry.load())
        raise KeyError(name) from None
    return _component(kind, module)


def _entry_points(kind: Kind) -> EntryPoints:
    """Components of other packages."""
    from importlib.metadata import entry_points  # most configurations name none of them

    return entry_points(group=f"mcp_ingest.{_PACKAGES[kind]}")


def _component(kind: Kind, found: Any) -> type[Component]:
    if inspect.isclass(found):
        return cast(type[Component], found)
    base = _BASES[kind]
    classes = [
        c
        for c in vars(found).values()
        if inspect.isclass(c)
        and issubclass(c, base)
        and c.__module__ == found.__name__
        and not c.__name__.startswith("_")
    ]
    if len(classes) != 1:
        raise IngestError(f"{found.__name__} must have exactly one public {base.__name__}, it has {len(classes)}")
    return classes[0]


__all__ = [
    "ByteSize", "Component", "Duration", "Emit", "Example", "FromFile", "Input", "Kind", "OnError", "Output",
    "OutputSettings", "Settings", "Sharing", "Stage", "StageSettings", "find", "for_each_event", "names", "on_error",
]  # fmt: skip
