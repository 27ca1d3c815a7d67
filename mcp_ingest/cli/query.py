"""Search the delivered events in Lucene syntax, over the embedded store or over Elasticsearch.

Exit code 0: something was found; 1: nothing; 2: the text or an option is wrong.
"""

from __future__ import annotations

import asyncio
import csv
import io
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import click
import orjson

from mcp_ingest.cli._shared import config_option
from mcp_ingest.config.load import load
from mcp_ingest.config.model import ComponentConfig, Configuration
from mcp_ingest.engine.search import MAX_LIMIT, SEARCHABLE, Found, Hit, Search, search
from mcp_ingest.engine.search.times import moment
from mcp_ingest.errors import OutputError, QueryError

FIELDS = ("@timestamp", "log_level", "service_name", "message")
_COLOURS = {"CRITICAL": "bold red", "ERROR": "red", "WARNING": "yellow", "INFO": "green", "DEBUG": "dim"}


@click.command()
@click.argument("text", default="")
@config_option
@click.option("--from", "start", metavar="TIME", help="The earliest time: 2026-01-31, an ISO time, now-1h or -1h.")
@click.option("--to", "end", metavar="TIME", help="The latest time, included.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, MAX_LIMIT), help="Hits at the most.")
@click.option("--oldest-first", is_flag=True, help="The oldest hits in place of the newest.")
@click.option("--format", "style", default="table", show_default=True, type=click.Choice(["table", "ndjson", "csv"]))
@click.option("--fields", metavar="NAMES", help="Columns of table and csv, by commas.")
@click.option("--output", "name", metavar="NAME", help="The output to search, where there are several.")
@click.pass_context
def command(
    context: click.Context,
    text: str,
    config: str | None,
    start: str | None,
    end: str | None,
    limit: int,
    oldest_first: bool,
    style: str,
    fields: str | None,
    name: str | None,
) -> None:
    """Search the delivered events in Lucene syntax, the newest first.

    \b
    mcp-ingest query 'log_level:ERROR AND service_name:model-router' --from -1h
    mcp-ingest query '"connection timeout" OR message:refus*' --format ndjson
    mcp-ingest query 'duration_ms:>=1000 AND NOT status_code:[200 TO 299]'

    Words without a field are looked for in `message`. Exit code 0: something was found; 1: nothing; 2: the text or
    an option is wrong; 3: the output cannot be searched now.
    """
    output = chosen(load(config), name)
    now = time.time_ns()
    try:
        earliest = moment(start, now) if start else None
        latest = moment(end, now, end=True) if end else None
        asked = Search(text, earliest, latest, limit, not oldest_first)
        found = asyncio.run(search(output, asked, now))
    except QueryError as error:
        raise click.UsageError(str(error)) from error
    except OutputError as error:
        click.echo(f"mcp-ingest: {error}", err=True)
        context.exit(3)
    columns = [field.strip() for field in fields.split(",")] if fields else list(FIELDS)
    _FORMATS[style](found.hits, columns)
    _remarks(found, style)
    context.exit(0 if found.hits else 1)


def chosen(configuration: Configuration, name: str | None) -> ComponentConfig:
    """The output to search: the named one, or the only one, or the first of the embedded stores."""
    searchable = [output for output in configuration.outputs.values() if output.type in SEARCHABLE]
    if name is not None:
        for output in searchable:
            if output.name == name:
                return output
        known = ", ".join(output.name for output in searchable) or "none"
        raise click.BadParameter(f"no output {name!r} that can be searched; there is {known}", param_hint="--output")
    if not searchable:
        raise click.UsageError(f"{configuration.path} has no output that can be searched ({' or '.join(SEARCHABLE)})")
    return min(searchable, key=lambda output: output.type != "store")


def _remarks(found: Found, style: str) -> None:
    for note in found.notes:
        click.echo(f"mcp-ingest: {note}", err=True)
    if style == "table" and (not found.exact or found.total > len(found.hits)):
        least = "" if found.exact else "at least "
        click.echo(f"{len(found.hits)} of {least}{found.total}; --limit shows more", err=True)


def value(event: dict[str, Any], field: str) -> str:
    """A field of an event as text; a dotted name is also looked for inside of maps."""
    found: Any = event.get(field)
    if found is None and "." in field:
        found = event
        for key in field.split("."):
            found = found.get(key) if isinstance(found, dict) else None
    if found is None:
        return ""
    return found if isinstance(found, str) else orjson.dumps(found).decode()


# --- the formats -------------------------------------------------------------------------------------------


def _ndjson(hits: Sequence[Hit], columns: Sequence[str]) -> None:
    for hit in hits:
        click.echo(orjson.dumps(hit.event))


def _csv(hits: Sequence[Hit], columns: Sequence[str]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    shown = _cell if sys.stdout.isatty() else str
    writer.writerows([shown(value(hit.event, column)) for column in columns] for hit in hits)
    click.echo(text.getvalue().encode(), nl=False)


def _table(hits: Sequence[Hit], columns: Sequence[str]) -> None:
    if not hits:
        return
    rows = [[_cell(value(hit.event, column)) for column in columns] for hit in hits]
    if sys.stdout.isatty():
        _colourful(rows, columns)
    else:
        _plain([list(columns), *rows])


def _cell(text: str) -> str:
    """One line, and nothing that a terminal would obey."""
    return "".join(c if c.isprintable() else {"\n": "⏎", "\t": " "}.get(c, "�") for c in text)


def _colourful(rows: list[list[str]], columns: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=column in FIELDS[:3], overflow="fold")
    for row in rows:
        cells = [
            Text(cell, _COLOURS.get(cell, "") if column == "log_level" else "")
            for cell, column in zip(row, columns, strict=True)
        ]
        table.add_row(*cells)
    Console(width=shutil.get_terminal_size().columns).print(table)


def _plain(rows: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    widths[-1] = 0
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


_FORMATS: dict[str, Callable[[Sequence[Hit], Sequence[str]], None]] = {
    "table": _table,
    "ndjson": _ndjson,
    "csv": _csv,
}
