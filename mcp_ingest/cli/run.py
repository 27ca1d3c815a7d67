"""Run the daemon in the foreground until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol

import click

from mcp_ingest import __version__
from mcp_ingest.cli._shared import config_option
from mcp_ingest.config.load import load
from mcp_ingest.config.model import Configuration
from mcp_ingest.context import Share, SystemClock
from mcp_ingest.engine import folders
from mcp_ingest.engine.daemon import Daemon
from mcp_ingest.engine.log import set_up
from mcp_ingest.engine.succession import had_a_supervisor, supervisors_lock
from mcp_ingest.engine.tuning import tune_allocator, tune_collector
from mcp_ingest.errors import IngestError
from mcp_ingest.metrics import Metrics


@click.command()
@config_option
@click.option("--worker", type=int, hidden=True, help="Started by a supervisor: the descriptor that it speaks through.")
def command(config: str | None, worker: int | None) -> None:
    """Run the daemon in the foreground until SIGTERM or Ctrl-C."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # process 1 of a container would ignore it until we listen
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # there is nothing to reload yet
    if worker is not None:
        from mcp_ingest.cli._worker import work

        sys.exit(work(config, worker))
    configuration = load(config)
    try:
        if configuration.workers > 1:
            from mcp_ingest.cli._supervisor import supervise

            asyncio.run(supervise(configuration, config))
        else:
            tune_allocator()
            with runner() as running:
                running.run(_run(configuration))
    except IngestError as error:
        click.echo(f"mcp-ingest: {error}", err=True)
        sys.exit(1)


def runner() -> asyncio.Runner:
    """What runs a daemon: on uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.Runner()
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


def obey_signals(stop: Callable[[], None], reload: Callable[[], None]) -> None:
    """Let SIGTERM and Ctrl-C begin the shutdown, SIGHUP a reload.

    But when the terminal that it runs on is closed, SIGHUP means what it always did.
    """
    had_terminal = sys.stderr.isatty()

    def hung_up() -> None:
        if had_terminal and not sys.stderr.isatty():
            stop()
        else:
            reload()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, hung_up)


async def live(
    daemon: Daemon, serve: Callable[[], Coroutine[Any, Any, None]], *others: Coroutine[Any, Any, None]
) -> None:
    """The daemon's whole life; the others go on until it ends, so does `serve`, which begins once the inputs listen."""
    obey_signals(daemon.stop, daemon.reloader.ask)
    try:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(daemon.run())
            beside = [group.create_task(other) for other in others]
            await daemon.graph.inputs_first()
            beside.append(group.create_task(serve()))
            await running
            for task in beside:
                task.cancel()
    except ExceptionGroup as errors:
        raise ours_among(errors) from None


def ours_among(errors: ExceptionGroup[Exception]) -> Exception:
    """The first error of ours, else all of them."""
    ours = errors.split(IngestError)[0]
    return errors if ours is None else ours.exceptions[0]


async def _run(config: Configuration) -> None:
    metrics = Metrics()
    logger = set_up(config.log, metrics)
    for warning in config.warnings:
        logger.warning("%s", warning)
    directory, lock = Path(config.spool.directory), None
    if had_a_supervisor(directory):
        lock = await supervisors_lock(directory, asyncio.Event(), SystemClock(), logger)
    try:
        share, orphans = _alone(directory)
        daemon = Daemon(config, metrics, logger, share=share, orphans=orphans)
        await live(daemon, lambda: _serve(daemon, config))
    finally:
        if lock is not None:
            lock.give()


def _alone(directory: Path) -> tuple[Share, list[int]]:
    """All of the work; workers of an earlier run may have left spools behind."""
    orphans = folders.orphans(directory, 1)
    if not orphans:
        return Share(), orphans
    return Share(positions=folders.positions_there(directory), locks=directory), orphans


async def _serve(daemon: Daemon, config: Configuration) -> None:
    """The pages, until cancelled; loaded only now, because that takes longer than all before it."""
    from mcp_ingest.web.server import serving

    async with serving(daemon, daemon.config.http) as address:
        tune_collector()
        await daemon.graph.listens.wait()
        listening = {name: str(each.where) for name, each in daemon.graph.inputs.items()}
        announce(daemon, config, listening, address)
        await asyncio.get_running_loop().create_future()


class Logging(Protocol):
    """A daemon, or the supervisor of several."""

    log: Any


def announce(who: Logging, config: Configuration, listening: dict[str, str], address: str) -> None:
    """Say what it listens on and what to try next: lines for a person on a terminal, one line of log elsewhere."""
    inputs = ", ".join(f"{name} on {where}" for name, where in listening.items())
    outputs = ", ".join(f"{o.name} ({o.type})" if o.name != o.type else o.name for o in config.outputs.values())
    workers = f", {config.workers} workers" if config.workers > 1 else ""
    if not sys.stderr.isatty():
        text = "mcp-ingest %s runs %s%s: %s; to %s; %s"
        who.log.info(text, __version__, config.path, workers, inputs, outputs, address)
        return
    lines = [
        f"mcp-ingest {__version__} runs the configuration: {config.path}{workers}",
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
