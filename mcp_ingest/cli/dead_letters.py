"""List, show, replay and drop dead letters, the events that could not go on.

Asks the daemon; when none runs, the spool itself is read, and only `replay` is not there. What is shown was masked
before it was stored.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import click

from mcp_ingest.cli._letters import (
    Letters,
    Wanted,
    chosen,
    filters,
    group_line,
    letter_line,
    moment,
    preview_lines,
)
from mcp_ingest.cli._shared import config_option
from mcp_ingest.config.load import load
from mcp_ingest.errors import IngestError

_REASONS_SHOWN = 10
Step = Callable[[int, int | None], dict[str, Any]]


@click.group()
@config_option
@click.pass_context
def command(ctx: click.Context, config: str | None) -> None:
    """List, show, replay and drop dead letters, the events that could not go on.

    Asks the daemon; when none runs, the spool itself is read, and only `replay` is not there. What is shown was masked
    before it was stored.
    """
    ctx.obj = config  # `-c` may stand before or behind the verb


@command.command("list")
@config_option
@filters
@click.option("--all", "single", is_flag=True, help="Single letters in place of groups, as --group does.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="How many lines.")
@click.option("--before", metavar="NUMBER", type=int, help="Only letters with a lower number: the next page.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each, one on a line.")
@click.pass_obj
def list_command(
    given: str | None, config: str | None, wanted: Wanted, single: bool, limit: int, before: int | None, as_json: bool
) -> None:
    """List dead letters by what went wrong, the largest group first; with --all or --group one by one.

    A group has one error signature: what went wrong and where, without what differs from event to event.
    """
    letters = Letters(load(config or given))
    if single or "group" in wanted or before is not None:
        _list_letters(letters.page(wanted, limit, before), limit, as_json)
        return
    groups, count = letters.groups(wanted, limit)
    if as_json:
        for group in groups:
            click.echo(json.dumps(group, ensure_ascii=False))
        return
    if not groups:
        click.echo("no dead letters", err=True)
        return
    head = f"{'group':<12}  {'letters':>9}  {'first':<20}  {'last':<20}  {'where':<28} reason of the last"
    click.echo(click.style(head, bold=True))
    for group in groups:
        click.echo(group_line(group))
    if count > len(groups):
        click.echo(f"and {count - len(groups):,} more groups: --limit", err=True)


def _list_letters(letters: list[dict[str, Any]], limit: int, as_json: bool) -> None:
    for letter in letters:
        click.echo(json.dumps(letter, ensure_ascii=False) if as_json else letter_line(letter))
    if as_json:
        return
    if not letters:
        click.echo("no dead letters", err=True)
    elif len(letters) == limit:
        click.echo(f"for older ones: --before {letters[-1]['number']}", err=True)


@command.command("show")
@config_option
@click.argument("number", type=click.IntRange(0, 2**63 - 1))
@click.option("--json", "as_json", is_flag=True, help="Print it as one JSON object.")
@click.pass_obj
def show_command(given: str | None, config: str | None, number: int, as_json: bool) -> None:
    """Show all that is known of one dead letter, and its record."""
    letter = Letters(load(config or given)).one(number)
    if as_json:
        click.echo(json.dumps(letter, ensure_ascii=False))
        return
    for name, value in letter.items():
        if name != "record" and value not in ("", None, 0):
            shown = moment(value) if name in ("time", "event_time", "received") else value
            click.echo(f"{name + ':':<12} {shown}")
    click.echo(json.dumps(letter["record"], ensure_ascii=False, indent=2))


@command.command("replay")
@config_option
@click.argument("numbers", metavar="[NUMBER]...", nargs=-1, type=click.IntRange(0, 2**63 - 1))
@filters
@click.option("--all", "everything", is_flag=True, help="All dead letters.")
@click.option("--through-pipeline", is_flag=True, help="Letters of an output, too, through the pipeline as it is now.")
@click.option("--dry-run", is_flag=True, help="Only show what would become of them.")
@click.option("--diffs", default=3, show_default=True, type=click.IntRange(0, 20), help="How many are shown before.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def replay_command(
    ctx: click.Context,
    numbers: tuple[int, ...],
    config: str | None,
    wanted: Wanted,
    everything: bool,
    through_pipeline: bool,
    dry_run: bool,
    diffs: int,
    yes: bool,
) -> None:
    """Send dead letters on their way again, each with its id, tag and times: the daemon must run.

    One of the way in goes through the pipeline that takes its tag now; one that an output refused goes to that output
    alone, as it is. Shows some records before and after, and asks on a terminal. What is delivered is no dead letter
    any more; what fails again is one anew. Exit code 0: all were replayed; 1: some stay, or there are none.
    """
    letters = Letters(load(config or ctx.obj))
    wanted = chosen(wanted, numbers, everything)
    found = letters.preview(wanted, diffs, through_pipeline)
    if not found["count"]:
        raise IngestError("there are no such dead letters")
    for preview in found["previews"]:
        click.echo("\n".join(preview_lines(preview)))
    if found["count"] > len(found["previews"]) > 0:
        click.echo(f"… and {found['count'] - len(found['previews']):,} more")
    if dry_run:
        return
    if sys.stdin.isatty() and not yes:
        click.confirm(f"Replay {_letters(found['count'])}?", abort=True)
    done = _step_by_step(
        "replaying", found["count"], lambda after, until: letters.replay(wanted, through_pipeline, after, until)
    )
    again = f"; dead letters again: {done['died']:,}" if done["died"] else ""
    click.echo(f"replayed {_letters(done['count'])}{again}")
    ctx.exit(_say_what_stays(done["kept"]))


def _say_what_stays(kept: list[dict[str, Any]]) -> int:
    """The reasons of those that were not replayed, and the exit code."""
    reasons = Counter(each["why"] for each in kept)
    for why, count in reasons.most_common(_REASONS_SHOWN):
        first = next(each["number"] for each in kept if each["why"] == why)
        click.echo(f"{_letters(count)} not replayed, such as {first}: {why}", err=True)
    return 1 if kept else 0


@command.command("drop")
@config_option
@click.argument("numbers", metavar="[NUMBER]...", nargs=-1, type=click.IntRange(0, 2**63 - 1))
@filters
@click.option("--all", "everything", is_flag=True, help="All dead letters.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def drop_command(
    ctx: click.Context, numbers: tuple[int, ...], config: str | None, wanted: Wanted, everything: bool, yes: bool
) -> None:
    """Delete dead letters for good; the ledger counts them as deleted.

    Asks before it deletes more than one; where there is no terminal, --yes says so.
    """
    letters = Letters(load(config or ctx.obj))
    wanted = chosen(wanted, numbers, everything)
    count = letters.count(wanted)
    if not count:
        raise IngestError("there are no such dead letters")
    if count > 1 and not yes:
        if not sys.stdin.isatty():
            raise IngestError(f"{_letters(count)} would be deleted: say --yes")
        click.confirm(f"Delete {_letters(count)} for good?", abort=True)
    done = _step_by_step("deleting", count, lambda after, until: letters.drop(wanted, after, until))
    click.echo(f"deleted {_letters(done['count'])}")


def _step_by_step(verb: str, count: int, step: Step) -> dict[str, Any]:
    """One bounded batch after the other, with a bar on a terminal; what they did in sum."""
    after, until = 0, None
    done: dict[str, Any] = {"count": 0, "died": 0, "kept": []}
    with click.progressbar(length=count, label=verb, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        while until is None or after < until:
            try:
                answer = step(after, until)
            except IngestError as error:
                raise IngestError(
                    f"{error}; that was after {_letters(done['count'])}" if done["count"] else str(error)
                ) from None
            after, until = answer["after"], answer["until"]
            for name in done:
                done[name] += answer.get(name, type(done[name])())
            bar.update(answer["count"] + len(answer.get("kept", ())))
    return done


def _letters(count: int) -> str:
    return f"{count:,} dead letter{'' if count == 1 else 's'}"
