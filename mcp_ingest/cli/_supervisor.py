"""The supervisor of several workers: the process that `run` becomes where `workers` is more than one."""

from __future__ import annotations

import asyncio
import sys

from mcp_ingest.cli.run import announce, obey_signals, ours_among
from mcp_ingest.config.model import Configuration
from mcp_ingest.engine.log import set_up
from mcp_ingest.engine.supervisor import Supervisor
from mcp_ingest.metrics import Metrics


async def supervise(config: Configuration, path: str | None) -> None:
    """Run the workers until SIGTERM or Ctrl-C; `path` is the configuration as it was given."""
    metrics = Metrics()
    logger = set_up(config.log, metrics)
    for warning in config.warnings:
        logger.warning("%s", warning)
    command = [sys.executable, "-m", "mcp_ingest", "run", *(["-c", path] if path else [])]
    supervisor = Supervisor(config, command, metrics, logger)
    obey_signals(supervisor.stop, supervisor.reload)
    try:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(supervisor.run())
            serving = group.create_task(_serve(supervisor, config))
            await running
            serving.cancel()
    except ExceptionGroup as errors:
        raise ours_among(errors) from None


async def _serve(supervisor: Supervisor, config: Configuration) -> None:
    """The pages of all workers, until cancelled."""
    from mcp_ingest.web.all_workers import serving

    async with serving(supervisor, config.http) as address:
        await supervisor.listens.wait()
        listening = {name: where for each in supervisor.members for name, where in (each.listening or {}).items()}
        announce(supervisor, config, listening, address)
        await asyncio.get_running_loop().create_future()
