"""List dead letters, the events that could not go on, and show one with all that is known of it.

Asks the daemon; when none runs, reads the spool itself. What is shown was masked before it was stored.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from datetime import UTC, datetime
from typing import Any

import click

from mcp_ingest.cli._shared import ask_daemon, config_option
from mcp_ingest.config.load import load
from mcp_ingest.config.model import Configuration
from mcp_ingest.errors import IngestError
from mcp_ingest.spool.model import DeadLetter


@click.group()
@config_option
@click.pass_context
def command(ctx: click.Context, config: str | None) -> None:
    """List dead letters, the events that could not go on, and show one with all that is known of it.

    Asks the daemon; when none runs, reads the spool itself. What is shown was masked before it was stored.
    """
    ctx.obj = config  # `-c` may stand before or behind `list` and `show`


@command.command("list")
@config_option
@click.option(
    "--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="How many, the newest first."
)
@click.option("--before", metavar="NUMBER", type=int, help="Only those with a lower number: the next page.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each, one on a line.")
@click.pass_obj
def list_command(given: str | None, config: str | None, limit: int, before: int | None, as_json: bool) -> None:
    """List the newest dead letters with their reasons."""
    letters = _letters(load(config or given), limit, before)
    for letter in letters:
        click.echo(json.dumps(letter, ensure_ascii=False) if as_json else line(letter))
    if as_json:
        return
    if not letters:
        click.echo("no dead letters", err=True)
    elif len(letters) == limit:
        click.echo(f"for older ones: --before {letters[-1]['number']}", err=True)


@command.command("show")
@config_option
@click.argument("number", type=int)
@click.option("--json", "as_json", is_flag=True, help="Print it as one JSON object.")
@click.pass_obj
def show_command(given: str | None, config: str | None, number: int, as_json: bool) -> None:
    """Show one dead letter with its record and where it fell out."""
    letter = _letter(load(config or given), number)
    if as_json:
        click.echo(json.dumps(letter, ensure_ascii=False))
        return
    for name, value in letter.items():
        if name != "record" and value not in ("", None):
            shown = moment(value) if name in ("time", "event_time") else value
            click.echo(f"{name + ':':<12} {shown}")
    click.echo(json.dumps(letter["record"], ensure_ascii=False, indent=2))


def line(letter: dict[str, Any]) -> str:
    """One letter in one line: number, time, where, tag, why; cut to a terminal's width."""
    text = (
        f"{letter['number']:>6}  {moment(letter['time'])}  {where(letter):<28} {letter['tag']:<12} {letter['reason']}"
    )
    text = " ".join(text.split("\n"))
    return text[: shutil.get_terminal_size().columns] if sys.stdout.isatty() else text


def where(letter: dict[str, Any]) -> str:
    """The output, or the way in as `input > pipeline > stage`, at which it fell out."""
    return letter["output"] or " > ".join(letter[name] for name in ("input", "pipeline", "stage") if letter[name])


def moment(time_ns: int) -> str:
    """Nanoseconds since 1970 as ISO 8601 in UTC; a dash for none."""
    if not time_ns:
        return "–"
    return datetime.fromtimestamp(time_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _letters(configuration: Configuration, limit: int, before: int | None) -> list[dict[str, Any]]:
    query = f"?limit={limit}" + (f"&before={before}" if before is not None else "")
    answer = ask_daemon(configuration.http, f"/api/dead-letters{query}")
    if answer is not None:
        return list(answer["letters"])
    from mcp_ingest.spool import SpoolReader

    with SpoolReader(configuration.spool.directory) as spool:
        return [_shown(letter) for letter in spool.letters(limit, before)]


def _letter(configuration: Configuration, number: int) -> dict[str, Any]:
    answer = ask_daemon(configuration.http, f"/api/dead-letters/{number}")
    if answer is not None:
        return dict(answer)
    from mcp_ingest.spool import SpoolReader

    with SpoolReader(configuration.spool.directory) as spool:
        letter = spool.letter(number)
    if letter is None:
        raise IngestError(f"there is no dead letter {number}")
    return _shown(letter)


def _shown(letter: DeadLetter) -> dict[str, Any]:
    return {**dataclasses.asdict(letter), "record": json.loads(letter.record)}
