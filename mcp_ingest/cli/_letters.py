"""What the verbs of `dead-letters` share: which letters are meant, who is asked for them, and how they look."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import shutil
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import click

from mcp_ingest.cli._shared import F, ask_daemon
from mcp_ingest.config.model import Configuration
from mcp_ingest.errors import IngestError

Wanted = dict[str, Any]  # as the pages of the daemon take it: group, output, …, numbers; only what was named
_PAGES = "/api/dead-letters"
_PATIENCE = 120.0  # seconds for one batch: the disk may be slow
_AT_ONCE = 2000


# --- which letters -----------------------------------------------------------------------------------------

_FILTERS = (
    click.option("--group", metavar="SIGNATURE", help="Only those of this group."),
    click.option("--output", metavar="NAME", help="Only those that this output refused."),
    click.option("--pipeline", metavar="NAME", help="Only those of events of this pipeline."),
    click.option("--stage", metavar="NAME", help="Only those of this stage."),
    click.option("--reason", metavar="TEXT", help="Only those with this text in their reason."),
    click.option("--since", metavar="TIME", help="Only those that died since: 2026-01-31, an ISO time, now-1h or -1h."),
)
_NAMES = ("group", "output", "pipeline", "stage", "reason", "since")


def filters(function: F) -> F:
    """Add the filters to a verb, which gets them as `wanted`."""

    @functools.wraps(function)
    def verb(*arguments: Any, **named: Any) -> Any:
        wanted = {name: value for name in _NAMES if (value := named.pop(name)) is not None}
        if "since" in wanted:
            from mcp_ingest.engine.search.times import moment as moment_of

            wanted["since"] = moment_of(wanted["since"], time.time_ns())
        return function(*arguments, wanted=wanted, **named)

    for option in reversed(_FILTERS):
        verb = option(verb)
    return verb  # type: ignore[return-value]


def chosen(wanted: Wanted, numbers: tuple[int, ...], everything: bool) -> Wanted:
    """What is to be changed; UsageError where nothing says which letters, or both all and some."""
    if numbers:
        wanted = {**wanted, "numbers": list(numbers)}
    if bool(wanted) == everything:
        raise click.UsageError("say which: NUMBERs, a filter such as --group SIGNATURE or --output NAME, or --all")
    return wanted or {"all": True}


# --- who is asked ------------------------------------------------------------------------------------------


class Letters:
    """The dead letters of a configuration: its daemon is asked; where none runs, its spool is read."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration

    def groups(self, wanted: Wanted, limit: int) -> tuple[list[dict[str, Any]], int]:
        """The largest groups, and how many groups there are."""
        answer = self._ask(f"{_PAGES}/groups?{urlencode({**wanted, 'limit': limit})}")
        if answer is not None:
            return list(answer["groups"]), answer["count"]
        found = self._in_spool(lambda spool: spool.letter_groups(_selection(wanted)))
        return [dataclasses.asdict(group) for group in found[:limit]], len(found)

    def page(self, wanted: Wanted, limit: int, before: int | None) -> list[dict[str, Any]]:
        """So many letters, the newest first."""
        asked = {**wanted, "limit": limit, **({"before": before} if before is not None else {})}
        answer = self._ask(f"{_PAGES}?{urlencode(asked)}")
        if answer is not None:
            return list(answer["letters"])
        return [_shown(each) for each in self._in_spool(lambda spool: spool.letters(limit, before, _selection(wanted)))]

    def one(self, number: int) -> dict[str, Any]:
        """One letter; IngestError if there is none of this number."""
        answer = self._ask(f"{_PAGES}/{number}")
        if answer is not None:
            return dict(answer)
        letter = self._in_spool(lambda spool: spool.letter(number))
        if letter is None:
            raise IngestError(f"there is no dead letter {number}")
        return _shown(letter)

    def preview(self, wanted: Wanted, limit: int, through_pipeline: bool) -> dict[str, Any]:
        """How many are meant, and what a replay would do with the newest."""
        return self._order("preview", {**wanted, "limit": limit, "through_pipeline": through_pipeline})

    def replay(self, wanted: Wanted, through_pipeline: bool, after: int, until: int | None) -> dict[str, Any]:
        """Replay a batch."""
        return self._order("replay", {**wanted, "through_pipeline": through_pipeline, "after": after, "until": until})

    def count(self, wanted: Wanted) -> int:
        """How many are meant."""
        answer = self._ask(f"{_PAGES}/preview", {**wanted, "limit": 0})
        if answer is not None:
            return int(answer["count"])
        return sum(group.letters for group in self._in_spool(lambda spool: spool.letter_groups(_selection(wanted))))

    def drop(self, wanted: Wanted, after: int, until: int | None) -> dict[str, Any]:
        """Delete a batch."""
        answer = self._ask(f"{_PAGES}/drop", {**wanted, "after": after, "until": until})
        if answer is not None:
            return dict(answer)
        count = self._in_spool(lambda spool: spool.drop_letters(_selection(wanted), _AT_ONCE))
        return {"count": count, "after": 0, "until": int(count == _AT_ONCE)}

    def _order(self, verb: str, order: Wanted) -> dict[str, Any]:
        answer = self._ask(f"{_PAGES}/{verb}", order)
        if answer is None:
            raise IngestError("no daemon runs, and it alone can replay: start it by `mcp-ingest run`")
        return dict(answer)

    def _ask(self, path: str, body: Wanted | None = None) -> Any | None:
        return ask_daemon(self._configuration.http, path, _PATIENCE, body)

    def _in_spool(self, function: Callable[[Any], Any]) -> Any:
        from mcp_ingest.spool import SpoolReader

        with SpoolReader(self._configuration.spool.directory) as spool:
            return function(spool)


def _selection(wanted: Wanted) -> Any:
    from mcp_ingest.spool.model import Selection

    named = {name: value for name, value in wanted.items() if name != "all"}
    return Selection(**{**named, **({"numbers": tuple(named["numbers"])} if "numbers" in named else {})})


def _shown(letter: Any) -> dict[str, Any]:
    return {**dataclasses.asdict(letter), "record": json.loads(letter.record)}


# --- how they look -----------------------------------------------------------------------------------------


def group_line(group: dict[str, Any]) -> str:
    """One group in one line: signature, how many, when the first and the last died, where, why."""
    when = f"{moment(group['oldest'])}  {moment(group['newest'])}"
    return _fitted(f"{group['signature']}  {group['letters']:>9,}  {when}  {where(group):<28} {group['reason']}")


def letter_line(letter: dict[str, Any]) -> str:
    """One letter in one line: number, time, where, tag, why."""
    return _fitted(
        f"{letter['number']:>6}  {moment(letter['time'])}  {where(letter):<28} {letter['tag']:<12} {letter['reason']}"
    )


def _fitted(text: str) -> str:
    """In one line; cut to a terminal's width."""
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


def preview_lines(preview: dict[str, Any]) -> list[str]:
    """What a replay would do with one letter: a sentence, and the record's lines with what is taken out and added."""
    places = ", ".join(f"{name}: {' '.join(sorted(set(each)))}" for name, each in preview["destinations"].items())
    why = f": {preview['why']}" if preview["why"] else ""
    lines = [click.style(f"{preview['number']}: {preview['outcome']}{why}", bold=True)]
    lines += [f"  to {places}"] if places else []
    before = _pretty(preview["before"])
    if not preview["after"] and preview["outcome"] != "taken out":
        return lines + [f"    {line}" for line in before]
    after = [line for record in preview["after"] for line in _pretty(record)]
    for line in difflib.ndiff(before, after):
        if line.startswith("?"):
            continue
        colour = {"-": "red", "+": "green"}.get(line[0])
        lines.append("  " + (click.style(line, fg=colour) if colour else line))
    return lines


def _pretty(record: Any) -> list[str]:
    """Its lines without the commas at their ends: they would be differences where a field is added."""
    return [line.rstrip(",") for line in json.dumps(record, ensure_ascii=False, indent=2).splitlines()]
