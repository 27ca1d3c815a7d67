"""List what removed outputs still owe, move it to another output, or drop it.

An output that the configuration has no more is named `NAME (TYPE)`, as `list` shows it; the name alone is enough where
there is one of it. Exit code 1: there is none, or it cannot be done.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from mcp_ingest.cli._shared import ask_daemon, config_option, seconds, size
from mcp_ingest.config.load import load
from mcp_ingest.config.model import Configuration
from mcp_ingest.engine.folders import folder_of, workers_there
from mcp_ingest.engine.status import age
from mcp_ingest.engine.together import together
from mcp_ingest.errors import IngestError

#: Seconds that a move or a drop may take.
PATIENCE = 3600


@click.group()
@config_option
@click.pass_context
def command(ctx: click.Context, config: str | None) -> None:
    """List what removed outputs still owe, move it to another output, or drop it.

    An output that the configuration has no more is named `NAME (TYPE)`, as `list` shows it; the name alone is enough
    where there is one of it. Exit code 1: there is none, or it cannot be done.
    """
    ctx.obj = config  # `-c` may stand before or behind the verb


@command.command("list")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def list_command(given: str | None, config: str | None, as_json: bool) -> None:
    """List the removed outputs that owe something: events, bytes, age of the oldest.

    Asks the daemon; when none runs, reads the spool itself.
    """
    found = _backlogs(load(config or given))
    if as_json:
        click.echo(json.dumps(found))
        return
    for name, each in found.items():
        old = seconds(age(each["oldest"], time.time_ns()))
        click.echo(f"{name:<32} {each['events']:>12,} events  {size(each['bytes']):>10}  oldest {old}")
    if not found:
        click.echo("no removed output owes anything", err=True)


@command.command("move")
@config_option
@click.argument("name")
@click.option("--to", required=True, metavar="OUTPUT", help="The output that gets it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def move_command(given: str | None, config: str | None, name: str, to: str, yes: bool) -> None:
    """Give what a removed output owes to another one, which sends it like anything that comes in.

    Each event keeps its id, so that what the other output has already is a duplicate and no second document.
    """
    configuration = load(config or given)
    name, events = _meant(configuration, name)
    if not yes:
        click.confirm(f"Move {events:,} events of {name} to {to}?", abort=True)
    click.echo(f"moved {_order(configuration, 'move', {'output': name, 'to': to}):,} events of {name} to {to}")


@command.command("drop")
@config_option
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def drop_command(given: str | None, config: str | None, name: str, yes: bool) -> None:
    """Let go of what a removed output owes, for good; it is counted as dropped by hand."""
    configuration = load(config or given)
    name, events = _meant(configuration, name)
    if not yes:
        click.confirm(f"Drop {events:,} events of {name} for good?", abort=True)
    click.echo(f"dropped {_order(configuration, 'drop', {'output': name}):,} events of {name}")


def _backlogs(configuration: Configuration) -> dict[str, Any]:
    answer = ask_daemon(configuration.http, "/api/backlogs")
    if answer is not None:
        return dict(answer["backlogs"])
    from mcp_ingest.spool import SpoolReader

    outputs = {output.name: output.type for output in configuration.outputs.values()}
    directory, found = Path(configuration.spool.directory), []
    for index in workers_there(directory) or [0]:
        with SpoolReader(folder_of(directory, index), outputs) as spool:
            found.append({name: asdict(held) for name, held in spool.backlog_of_removed_outputs().items()})
    return dict(together(found))


def _meant(configuration: Configuration, name: str) -> tuple[str, int]:
    """The removed output that this names, and how many events it owes."""
    found = _backlogs(configuration)
    meant = [each for each in found if each == name or each.rpartition(" (")[0] == name]
    if len(meant) == 1:
        return meant[0], found[meant[0]]["events"]
    if meant:
        raise IngestError(f"there are several: {', '.join(map(repr, meant))}")
    others = f": there are {', '.join(map(repr, found))}" if found else ", nor of any other"
    raise IngestError(f"there is no backlog of a removed output {name!r}{others}")


def _order(configuration: Configuration, verb: str, body: dict[str, str]) -> int:
    answer = ask_daemon(configuration.http, f"/api/backlogs/{verb}", PATIENCE, body)
    if answer is None:
        raise IngestError("no daemon runs: start it first")
    return int(answer["events"])
