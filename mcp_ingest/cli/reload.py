"""Let the daemon read its configuration again, and show what that changed.

Exit code 0: it was taken; 1: it was not, and the old one goes on, or no daemon runs.
"""

from __future__ import annotations

import json
from typing import Any

import click

from mcp_ingest.cli._shared import RefusalError, ask_daemon, config_option
from mcp_ingest.config.load import load_http
from mcp_ingest.errors import IngestError

#: Seconds: inputs get 30 to listen, requests under way five, inputs that end fifteen.
PATIENCE = 90


@click.command()
@config_option
@click.option("--port", metavar="PORT", type=int, help="The daemon's HTTP port, where it is http.port that changed.")
@click.option("--json", "as_json", is_flag=True, help="Print the daemon's answer, for scripts.")
@click.pass_context
def command(ctx: click.Context, config: str | None, port: int | None, as_json: bool) -> None:
    """Let the daemon read its configuration again, and show what that changed.

    Exit code 0: it was taken; 1: it was not, and the old one goes on, or no daemon runs.
    """
    http = load_http(config)
    http.port = http.port if port is None else port
    try:
        answer = ask_daemon(http, "/-/reload", PATIENCE, {})
    except RefusalError as error:
        for problem in error.answer.get("problems", [str(error)]):
            click.echo(problem, err=True)
        click.echo("mcp-ingest: not reloaded: the old configuration goes on", err=True)
        ctx.exit(1)
    if answer is None:
        where = "" if port is not None else "; if http.port is what you changed, name the old one by --port"
        raise IngestError(f"no daemon listens on {http.host}:{http.port}{where}")
    click.echo(json.dumps(answer) if as_json else "\n".join(lines(answer)))
    for warning in () if as_json else answer["warnings"]:
        click.echo(f"{click.style('warning', fg='yellow')}: {warning}", err=True)


def lines(answer: dict[str, Any]) -> list[str]:
    """What changed, for a person."""
    shown = []
    for kind in ("inputs", "pipelines", "outputs"):
        parts = [f"{how}: {', '.join(names)}" for how, names in answer[kind].items() if names]
        shown.append(f"  {kind:<10} {'; '.join(parts)}")
    if answer["settings"]:
        shown.append(f"  {'settings':<10} changed: {', '.join(answer['settings'])}")
    for name, events in answer["backlogs"].items():
        shown.append(f"  {events:,} events of {name} wait in the spool: mcp-ingest backlog list")
    return [f"{click.style('reloaded', fg='green')}: {answer['configuration']}", *shown]
