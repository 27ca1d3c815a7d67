"""The daemon between its senders and Elasticsearch (or its store), and all that a fault may lay hands on."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.chaos.book import Book
from tests.chaos.control import Control
from tests.chaos.disk import Disk, disk
from tests.chaos.machine import UnavailableError
from tests.chaos.network import Network, network
from tests.chaos.process import TOKEN, DaemonProcess
from tests.chaos.proxy import Proxy, proxy
from tests.chaos.senders import Forward
from tests.chaos.tailed import Tailed
from tests.integration.configurations import with_pipeline
from tests.integration.servers import Elasticsearch, free_port

#: Short, so that requests without an answer come to their end within a fault.
_REQUEST_SECONDS = 5
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line says."""

    seed: int = 1
    seconds: float = 60.0
    faults: tuple[str, ...] = ()  # all that can be had, if empty
    output: Literal["elasticsearch", "store"] = "elasticsearch"
    rounds: int = 0  # so many in place of `seconds`
    kills: int = 0  # so many `kill`s in place of `seconds`
    lasting: float | None = None  # seconds of every fault that lasts
    rate: float = 600.0  # events a second by forward
    spool_bytes: str = "8GiB"  # a small one is full whenever Elasticsearch is away
    lines: float = 200.0  # lines a second into each of two files
    workers: int = 1  # more: of each life one less, as many, or one more


@dataclass
class Scene:
    """See the module; what cannot be had here is in `missing`, with the reason."""

    options: Options
    directory: Path
    book: Book
    control: Control
    forward: Forward
    tailed: list[Tailed]
    daemon: DaemonProcess
    server: Elasticsearch | None
    index: str  # what the names of its indices begin with
    peer: str = LOOPBACK  # the address that forward comes from
    patience: float = 90.0  # seconds for whatever must come back by itself
    missing: dict[str, str] = field(default_factory=dict)
    _proxy: Proxy | None = None
    _disk: Disk | None = None
    _network: Network | None = None

    @property
    def load(self) -> list[Forward | Tailed]:
        """All that sends."""
        return [self.forward, *self.tailed]

    @property
    def elasticsearch(self) -> Elasticsearch:
        """The real server."""
        assert self.server is not None
        return self.server

    @property
    def proxy(self) -> Proxy:
        """What stands in front of it."""
        assert self._proxy is not None
        return self._proxy

    @property
    def disk(self) -> Disk:
        """That of the spool."""
        assert self._disk is not None
        return self._disk

    @property
    def network(self) -> Network:
        """That of the daemon."""
        assert self._network is not None
        return self._network

    @property
    def store(self) -> Path:
        """The folder of the embedded store."""
        return self._folder / "store"

    @property
    def spool(self) -> Path:
        """The folder of the spools."""
        return self._folder / "spool"

    @property
    def _folder(self) -> Path:
        return self._disk.folder if self._disk else self.directory

    def lasts(self, rng: random.Random, least: float, most: float) -> float:
        """Seconds that a fault lasts, by its dice or by the command line."""
        drawn = rng.uniform(least, most)
        return drawn if self.options.lasting is None else self.options.lasting


@asynccontextmanager
async def scene(options: Options, directory: Path, server: Elasticsearch | None) -> AsyncIterator[Scene]:
    """Everything in its place and nothing started but the proxy; all of it is ended with the block.

    `server` is a running Elasticsearch where the output is that; it stays the caller's.
    """
    missing: dict[str, str] = {} if server else {"elasticsearch": f"the output is {options.output}"}
    if options.workers == 1:
        missing["workers"] = "there is one process (--workers 2 makes them two)"
    book = Book()
    async with AsyncExitStack() as stack:
        small, net = None, None
        try:
            small = stack.enter_context(disk(directory))
        except UnavailableError as why:
            missing["disk"] = str(why)
        try:
            net = stack.enter_context(network())
        except UnavailableError as why:
            missing["network"] = str(why)
        here, there = (net.here, net.there) if net else (LOOPBACK, LOOPBACK)
        before = await stack.enter_async_context(proxy((LOOPBACK, server.port), here)) if server else None
        ports = free_port(), free_port()
        quick = Tailed(book, directory / "logs", "quick", options.lines, options.seed + 1, quick=True)
        slow = Tailed(book, directory / "logs", "slow", options.lines, options.seed + 2, quick=False)
        folder = small.folder if small else directory
        url = f"http://{before.address[0]}:{before.address[1]}" if before else None
        index = f"chaos-{time.time_ns()}"
        config = _configuration(there, ports, [quick, slow], folder, url, index, options.spool_bytes)
        control = Control(directory / "control")
        prefix, numbers = net.prefix if net else [], _numbers(options)
        daemon = DaemonProcess(directory, config, (there, ports[1]), control, prefix, numbers)
        stack.callback(daemon.kill)
        forward = Forward(book, (there, ports[0]), options.rate, options.seed)
        yield Scene(
            options, directory, book, control, forward, [quick, slow], daemon, server, index,
            peer=here, missing=missing, _proxy=before, _disk=small, _network=net,
        )  # fmt: skip


def _numbers(options: Options) -> Iterator[int]:
    """How many workers each life of the daemon has."""
    rng, most = random.Random(options.seed), options.workers
    yield most
    while True:
        yield rng.randint(most - 1, most + 1) if most > 1 else 1


def _configuration(
    host: str,
    ports: tuple[int, int],
    tailed: list[Tailed],
    folder: Path,
    url: str | None,
    index: str,
    spool_bytes: str,
) -> dict[str, Any]:
    """The daemon's: the platform's pipeline, whole, before one output."""
    inputs: dict[str, Any] = {"forward": {"host": host, "port": ports[0]}}
    for each in tailed:
        inputs[each.name] = {"type": "tail", "paths": [each.glob], "start_at": "head", "tag": f"chaos.{each.name}"}
    if url:  # by day, as the default is: a clock that jumps must not move an event to another index
        name = index + "-{@timestamp:%Y.%m.%d}"
        output: dict[str, Any] = {"hosts": [url], "index": name, "request_seconds": _REQUEST_SECONDS}
        made = with_pipeline(inputs, "elasticsearch", output)
    else:
        made = with_pipeline(inputs, "store", {"directory": str(folder / "store"), "retention": "400d"})
    return {
        **made,
        "spool": {"directory": str(folder / "spool"), "max_bytes": spool_bytes},
        "http": {"host": host, "port": ports[1], "token": TOKEN},
    }
