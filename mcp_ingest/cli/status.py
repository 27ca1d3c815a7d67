"""Show rates, the spool, each output's state, and whether every event is accounted for.

Asks the daemon; when none runs, reads the spool itself. Exit code 0: all sums close and no output waits;
1: no daemon runs; 2: the configuration is wrong; 3: a sum does not close, an output waits or is parked, or the disk
of the spool refuses.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from mcp_ingest.cli._shared import ask_daemon, config_option, seconds, size
from mcp_ingest.config.load import load
from mcp_ingest.config.model import Configuration
from mcp_ingest.engine.folders import folder_of, workers_there
from mcp_ingest.engine.together import together
from mcp_ingest.errors import IngestError
from mcp_ingest.event import Term

NOT_RUNNING, TROUBLE = 1, 3
_SHOWN = 10  # destinations that take nothing, of one output
_COLOURS = {"up": "green", "starting": "yellow", "waiting": "yellow", "parked": "red", "stopped": "yellow"}


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print the daemon's JSON, for scripts.")
@click.option("--watch", metavar="SECONDS", type=click.FloatRange(min=0.1), help="Show it anew every so often.")
@click.pass_context
def command(ctx: click.Context, config: str | None, as_json: bool, watch: float | None) -> None:
    """Show rates, the spool, each output's state, and whether every event is accounted for.

    Asks the daemon; when none runs, reads the spool itself. Exit code 0: all sums close and no output waits;
    1: no daemon runs; 2: the configuration is wrong; 3: a sum does not close, an output waits or is parked, or the disk
    of the spool refuses.
    """
    configuration = load(config)
    while True:
        status = ask_daemon(configuration.http, "/status") or stopped(configuration)
        if watch and not as_json:
            click.clear()
        click.echo(json.dumps(status) if as_json else "\n".join(lines(status)))
        if not watch:
            ctx.exit(exit_code(status))
        time.sleep(watch)


def exit_code(status: dict[str, Any]) -> int:
    """What the docstring above promises."""
    if not status.get("running", True):
        return NOT_RUNNING
    outputs = status["outputs"].values()
    if status.get("spool", {}).get("trouble"):
        return TROUBLE
    waiting = any(output["state"] in ("waiting", "parked") or output.get("parked") for output in outputs)
    return TROUBLE if waiting or not all(each["closed"] for each in status["sums"]) else 0


def stopped(configuration: Configuration) -> dict[str, Any]:
    """The status of a daemon that is not running, out of its spools; without one, its configuration alone."""
    directory = Path(configuration.spool.directory)
    there = workers_there(directory) or [0]
    try:
        answers = [_of_spool(configuration, folder_of(directory, index)) for index in there]
    except IngestError as error:
        answers = [{**_NOTHING, "why": str(error)}]
    return {"running": False, "configuration": configuration.path, **together(answers)}


_NOTHING: dict[str, Any] = {
    "inputs": {},
    "outputs": {},
    "ledger": {"inputs": [], "outputs": [], "dead_letters": []},
    "sums": [],
}


def _of_spool(configuration: Configuration, folder: Path) -> dict[str, Any]:
    """What one spool says."""
    from mcp_ingest.engine import status
    from mcp_ingest.spool import SpoolReader
    from mcp_ingest.spool.aside import notices

    types = {output.name: output.type for output in configuration.outputs.values()}
    now = time.time_ns()
    with SpoolReader(folder, types, configuration.spool.max_bytes // configuration.workers) as spool:
        ledger, usage = spool.ledger(), spool.usage()
        held = {name: spool.held(name) for name in types}
        removed = spool.backlog_of_removed_outputs()
        owed = status.owed(held, removed)
        received, delivered = status.received(ledger), status.delivered(ledger)
    return {
        "inputs": {name: {"listening": None, "received": received[name]} for name in configuration.inputs},
        "outputs": {
            name: {
                "type": types[name],
                "state": "stopped",
                "held": each.events,
                "held_bytes": each.bytes,
                "oldest_age_seconds": status.age(each.oldest, now),
                "delivered": delivered[name],
                "lost": status.lost(ledger, name),
            }
            for name, each in held.items()
        },
        "removed_outputs": {name: asdict(each) for name, each in removed.items()},
        "spool": status.spool_status(usage, now) | status.damage(notices(folder), ""),
        "ledger": status.ledger_rows(ledger),
        "sums": status.sums(ledger, owed, usage.dead_letters),
    }


def lines(status: dict[str, Any]) -> list[str]:
    """The status for a person."""
    shown = [_head(status), *_workers(status.get("workers", []))]
    shown += [*_inputs(status["inputs"]), *_outputs(status["outputs"])]
    shown += _removed(status.get("removed_outputs", {}))
    if "spool" in status:
        shown += [_spool(status["spool"]), *_damage(status["spool"])]
    for section, by in (("inputs", "input"), ("outputs", "output"), ("dead_letters", "")):
        shown += _ledger(section, by, status["ledger"][section])
    return shown + [_sum(each) for each in status["sums"]]


def _head(status: dict[str, Any]) -> str:
    if not status.get("running", True):
        why = f": {status['why']}" if "why" in status else "; this is what its spool holds"
        return click.style("mcp-ingest is not running", fg="yellow") + why
    configuration = f", configuration: {status['configuration']}" if "configuration" in status else ""
    head = f"mcp-ingest {status['version']}, up {seconds(status['uptime_seconds'])}{configuration}"
    failed = (status.get("reload_failed") or "").splitlines()
    return head + "".join(click.style(f"\n  the last reload failed: {line}", fg="red") for line in failed)


def _workers(workers: list[dict[str, Any]]) -> list[str]:
    shown = []
    for each in workers:
        state = click.style(f"{each['state']:<24}", fg="green" if each["state"] == "listening" else "yellow")
        received = "" if each["received"] is None else f" received {each['received']:,}"
        restarts = f", started again {each['restarts']} times" if each["restarts"] else ""
        shown.append(f"  worker {each['worker']:<13} {state}{received}{restarts}")
    return shown


def _inputs(inputs: dict[str, Any]) -> list[str]:
    return [
        f"  in   {name:<16} {each['listening'] or '–':<24} received {each['received']:,}{_rate(each)}"
        for name, each in inputs.items()
    ]


def _outputs(outputs: dict[str, Any]) -> list[str]:
    shown = []
    for name, each in outputs.items():
        state = click.style(f"{each['state']:<24}", fg=_COLOURS.get(each["state"]))
        held = ""
        if each["held"]:
            held = f", held {each['held']:,} ({size(each['held_bytes'])}, oldest {seconds(each['oldest_age_seconds'])})"
        why = f": {each['why']}" if each.get("why") else ""
        shown.append(f"  out  {name:<16} {state} delivered {each['delivered']:,}{_rate(each)}{held}{why}")
        shown += _lost(each.get("lost") or {})
        parked = each.get("parked") or {}
        shown += [f"       {'':<16} {place} takes nothing: {said}" for place, said in [*parked.items()][:_SHOWN]]
        if len(parked) > _SHOWN:
            shown.append(f"       {'':<16} and {len(parked) - _SHOWN:,} more")
    return shown


def _lost(reasons: dict[str, int]) -> list[str]:
    """What an output has lost, and where it is said what to do about it."""
    if not reasons:
        return []
    named = ", ".join(f"{reason} {count:,}" for reason, count in reasons.items())
    said = f"lost {sum(reasons.values()):,} ({named}): docs/damage.md says what can be done"
    return [f"       {'':<16} {click.style(said, fg='red')}"]


def _damage(spool: dict[str, Any]) -> list[str]:
    """What the disk does and has done; a folder is shown until it is deleted."""
    shown = [f"the disk of the spool refuses: {spool['trouble']}; inputs wait"] if spool.get("trouble") else []
    for each in spool.get("damage", []):
        when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(each["time"] / 1e9))
        lost = ", ".join(f"{name} {count:,}" for name, count in each["lost"].items()) or "nothing"
        parts = [f"damage on {when} UTC: {each['why']}", each["what"], f"lost: {lost}"]
        if each["positions_lost"]:
            parts.append("files are read again and may be stored twice")
        parts.append(f"{each['folder']} ({size(each['bytes'])}) can be deleted when it was seen to")
        shown.append("; ".join(part for part in parts if part))
    return [click.style(line, fg="red") for line in shown]


def _removed(outputs: dict[str, Any]) -> list[str]:
    return [
        f"  gone {name:<41} held {each['events']:,} ({size(each['bytes'])}), waits until it is configured again"
        for name, each in outputs.items()
    ]


def _rate(each: dict[str, Any]) -> str:
    return f", {each['rate']:,.1f}/s" if "rate" in each else ""


def _spool(spool: dict[str, Any]) -> str:
    return (
        f"spool: {size(spool['bytes'])} of {size(spool['max_bytes'])} in {spool['chunks']:,} chunks, "
        f"oldest {seconds(spool['oldest_age_seconds'])}, write-ahead log {size(spool['wal_bytes'])}, "
        f"dead letters {spool['dead_letters']:,}{_dead_letters(spool)}"
    )


def _dead_letters(spool: dict[str, Any]) -> str:
    if not spool["dead_letters"]:
        return ""
    return f" ({size(spool['dead_letter_bytes'])}, oldest {seconds(spool['oldest_dead_letter_age_seconds'])})"


def _ledger(section: str, by: str, rows: list[dict[str, Any]]) -> list[str]:
    """Each name's terms, with their reasons where there are any."""
    terms: dict[str, dict[str, dict[str, int]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(int)))
    for row in rows:
        terms[row[by] if by else section.replace("_", " ")][row["term"]][row["reason"]] += row["count"]
    return [
        f"ledger of {name}: " + ", ".join(_term(*each) for each in sorted(named.items(), key=_order))
        for name, named in terms.items()
    ]


def _order(named: tuple[str, Any]) -> int:
    return [*Term].index(Term(named[0]))


def _term(term: str, reasons: dict[str, int]) -> str:
    named = ", ".join(f"{reason} {count:,}" for reason, count in sorted(reasons.items()) if reason)
    return f"{term.replace('_', '-')} {sum(reasons.values()):,}" + (f" ({named})" if named else "")


def _sum(each: dict[str, Any]) -> str:
    left, right = each["left"], each["right"]
    if each["closed"]:
        return f"{click.style('✓', fg='green')} {each['sum']}: {left:,} = {right:,}"
    return click.style(f"✗ {each['sum']}: {left:,} ≠ {right:,}, difference {left - right:+,}", fg="red")
