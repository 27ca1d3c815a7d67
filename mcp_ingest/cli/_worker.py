"""One of several workers, started by a supervisor: a daemon with a part of the work, which ends with its supervisor."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import socket
from pathlib import Path

from mcp_ingest.cli.run import live, runner
from mcp_ingest.config.load import load
from mcp_ingest.config.model import Configuration
from mcp_ingest.context import Share
from mcp_ingest.engine.daemon import Daemon
from mcp_ingest.engine.log import set_up
from mcp_ingest.engine.orders import Link, Notice
from mcp_ingest.engine.tuning import tune_allocator, tune_collector
from mcp_ingest.errors import ConfigError, IngestError
from mcp_ingest.metrics import Metrics


def work(config: str | None, descriptor: int) -> int:
    """Work until the supervisor says so, or is gone; the exit code."""
    tune_allocator()
    link = Link(descriptor)
    os.set_inheritable(link.orders.lock, False)
    try:
        configuration = dataclasses.replace(load(config), workers=link.orders.count)
        with runner() as running:
            running.run(_run(configuration, link))
    except ConfigError as error:
        link.tell(Notice(failed=str(error), code=2))
        return 2
    except IngestError as error:
        link.tell(Notice(failed=str(error)))
        return 1
    return 0


async def _run(config: Configuration, link: Link) -> None:
    orders, metrics = link.orders, Metrics()
    logger = set_up(config.log, metrics, orders.index)
    share = Share(orders.index, orders.count, orders.ports, orders.positions, Path(config.spool.directory))
    daemon = Daemon(config, metrics, logger, share=share, orphans=orders.orphans)
    await live(daemon, lambda: _serve(daemon, config, link), _end_with_supervisor(daemon, link))


async def _end_with_supervisor(daemon: Daemon, link: Link) -> None:
    await link.gone()
    daemon.stop()


async def _serve(daemon: Daemon, config: Configuration, link: Link) -> None:
    """Answer the supervisor's questions, until cancelled."""
    from mcp_ingest.web.server import serving

    async with serving(daemon, config.http, socket.socket(fileno=link.orders.http)):
        tune_collector()
        await asyncio.gather(*(graph.listens.wait() for graph in daemon.graphs.values() if graph.inputs))
        inputs = {name: str(each.where) for name, each in daemon.graph.inputs.items()}
        link.tell(Notice(listening=inputs))
        await asyncio.get_running_loop().create_future()
