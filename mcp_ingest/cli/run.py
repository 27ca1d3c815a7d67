"""Run the daemon in the foreground until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
import sys

import click

from mcp_ingest import __version__
from mcp_ingest.cli._shared import config_option
from mcp_ingest.config.load import load
from mcp_ingest.config.model import Configuration
from mcp_ingest.engine.daemon import Daemon
from mcp_ingest.engine.log import set_up
from mcp_ingest.engine.tuning import tune_allocator, tune_collector
from mcp_ingest.errors import IngestError
from mcp_ingest.metrics import Metrics


@click.command()
@config_option
def command(config: str | None) -> None:
    """Run the daemon in the foreground until SIGTERM or Ctrl-C."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # process 1 of a container would ignore it until we listen
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # there is nothing to reload yet
    tune_allocator()
    configuration = load(config)
    try:
        import uvloop

        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    except ImportError:
        runner = asyncio.Runner()
    try:
        with runner:
            runner.run(_run(configuration))
    except IngestError as error:
        click.echo(f"mcp-ingest: {error}", err=True)
        sys.exit(1)


async def _run(config: Configuration) -> None:
    metrics = Metrics()
    logger = set_up(config.log, metrics)
    for warning in config.warnings:
        logger.warning("%s", warning)
    daemon = Daemon(config, metrics, logger)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, daemon.stop)
    loop.add_signal_handler(signal.SIGHUP, _hung_up, daemon, sys.stderr.isatty())
    try:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(daemon.run())
            await daemon.graph.inputs_first()
            announcing = group.create_task(_serve(daemon, config))
            await running
            announcing.cancel()
    except ExceptionGroup as errors:
        ours = errors.split(IngestError)[0]
        if ours is None:
            raise
        raise ours.exceptions[0] from None


def _hung_up(daemon: Daemon, had_terminal: bool) -> None:
    """SIGHUP asks for a reload, but when the terminal that it runs on is closed it means what it always did."""
    if had_terminal and not sys.stderr.isatty():
        daemon.stop()
    else:
        daemon.reloader.ask()


async def _serve(daemon: Daemon, config: Configuration) -> None:
    """The pages, until cancelled; loaded only now, because that takes longer than all before it."""
    from mcp_ingest.web.server import serving

    async with serving(daemon, daemon.config.http) as address:
        tune_collector()
        await daemon.graph.listens.wait()
        _announce(daemon, config, address)
        await asyncio.get_running_loop().create_future()


def _announce(daemon: Daemon, config: Configuration, address: str) -> None:
    """Say what it listens on and what to try next: lines for a person on a terminal, one line of log elsewhere."""
    inputs = ", ".join(f"{name} on {each.where}" for name, each in daemon.graph.inputs.items())
    outputs = ", ".join(f"{o.name} ({o.type})" if o.name != o.type else o.name for o in config.outputs.values())
    if not sys.stderr.isatty():
        daemon.log.info("mcp-ingest %s runs %s: %s; to %s; %s", __version__, config.path, inputs, outputs, address)
        return
    lines = [
        f"mcp-ingest {__version__} runs the configuration: {config.path}",
        f"  takes events:     {inputs}",
        f"  delivers to:      {outputs}",
        f"  holds them in:    {config.spool.directory}",
        f"  metrics, health:  {address}/metrics  {address}/-/ready",
        "Try in another terminal:",
        "  mcp-ingest send --tag mcp 'hello from the shell'",
        "  mcp-ingest query 'message:hello'",
        "  mcp-ingest status",
    ]
    click.echo("\n".join(lines), err=True)
