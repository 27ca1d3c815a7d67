"""Send one event, standard input or a file by the forward protocol, and wait until it is durable.

A text becomes a `message`; lines that are JSON objects are events themselves, all others a `message`. Exit code 0: all
is acknowledged; 1: not all.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import Any, cast

import click
import orjson

from mcp_ingest.cli._shared import config_option, reachable
from mcp_ingest.client.forward import ForwardSender, SendError

_READ_BYTES = 256 * 1024  # at the most in one chunk; what a pipe has so far is sent at once


@click.command()
@config_option
@click.argument("text", nargs=-1)
@click.option("--tag", default="mcp", show_default=True, help="The events' tag, by which their pipeline is chosen.")
@click.option("--record", metavar="JSON", help="Send this object as one event, as it is.")
@click.option("--file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Send the lines of a file.")
@click.option("--host", help="Where to; by default the configuration's first forward input.")
@click.option("--port", type=click.IntRange(1, 65535), help="Its port; 24224 where only the host is given.")
@click.option("--timeout", default=30.0, show_default=True, help="Seconds to wait for an acknowledgement.")
def command(
    config: str | None,
    text: tuple[str, ...],
    tag: str,
    record: str | None,
    file: Path | None,
    host: str | None,
    port: int | None,
    timeout: float,
) -> None:
    """Send one event, standard input (-) or a file by the forward protocol, and wait until it is durable.

    TEXT becomes the `message` of one event, whatever it says, JSON too. With --record, and in the lines of standard
    input or a file, a JSON object is the event itself; a line that is none becomes a `message`.

    \b
    mcp-ingest send paid                       {"message": "paid"}
    mcp-ingest send '{"order": 17}'            {"message": "{\\"order\\": 17}"}
    mcp-ingest send --record '{"order": 17}'   {"order": 17}
    echo '{"order": 17}' | mcp-ingest send -   {"order": 17}
    echo paid | mcp-ingest send -              {"message": "paid"}

    A pipeline with `parse_json`, such as the built-in one, takes the object out of the message again. Exit code 0: all
    is acknowledged; 1: not all.
    """
    if sum((bool(text), record is not None, file is not None)) != 1:
        raise click.UsageError("give one of: a text, - for standard input, --record, --file")
    host, port = _address(config, host, port)
    sent = 0
    with contextlib.ExitStack() as stack:
        batches, advance = _source(stack, text, record, file)
        sender = stack.enter_context(ForwardSender(host, port, timeout=timeout))
        try:
            for size, records in batches:
                now = time.time_ns()
                sender.send(tag, [(now, each) for each in records])
                sent += len(records)
                advance(size)
        except SendError:
            if sent:
                click.echo(f"{sent:,} events were acknowledged before", err=True)
            raise
    click.echo(f"{sent:,} {'event' if sent == 1 else 'events'} acknowledged by {host}:{port}")


Batches = Iterator[tuple[int, list[dict[str, Any]]]]


def _source(
    stack: contextlib.ExitStack, text: tuple[str, ...], record: str | None, file: Path | None
) -> tuple[Batches, Callable[[int], None]]:
    """The records to send, with the bytes they were read from, and whom to tell of progress."""
    if record is not None:
        return iter([(0, [_object(record)])]), _silent
    if file is not None:
        opened = stack.enter_context(file.open("rb"))
        return batches_of(cast(BufferedIOBase, opened)), _progress(stack, file.stat().st_size)
    if text == ("-",):
        return batches_of(cast(BufferedIOBase, sys.stdin.buffer)), _progress(stack, None)
    return iter([(0, [{"message": " ".join(text)}])]), _silent


def batches_of(source: BufferedIOBase) -> Batches:
    """The lines of a stream as records, as many at a time as can be had without waiting."""
    begun: list[bytes] = []  # pieces of a line whose end has not come yet
    while data := source.read1(_READ_BYTES):
        first, *others = data.split(b"\n")
        begun.append(first)
        if others:
            lines = [b"".join(begun), *others[:-1]]
            begun = [others[-1]]
            if records := [_record(line) for line in lines if line.strip()]:
                yield len(data), records
    if (rest := b"".join(begun)).strip():
        yield len(rest), [_record(rest)]


def _record(line: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        value = None
    return value if isinstance(value, dict) else {"message": line.decode("utf-8", "replace").rstrip("\r")}


def _object(text: str) -> dict[str, Any]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise click.BadParameter(f"not JSON: {error}", param_hint="--record") from None
    if not isinstance(value, dict):
        raise click.BadParameter("must be a JSON object", param_hint="--record")
    return value


def _address(config: str | None, host: str | None, port: int | None) -> tuple[str, int]:
    """What was given, else the configuration's first forward input, else Fluentd's port on this machine."""
    if host is None and port is None:
        from mcp_ingest.config.load import load

        for each in load(config).inputs.values():
            if each.type == "forward":
                return reachable(each.settings.host), each.settings.port
    return host or "127.0.0.1", port or 24224


def _silent(count: int) -> None:
    """No progress is shown."""


def _progress(stack: contextlib.ExitStack, total: int | None) -> Callable[[int], None]:
    """A bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        return _silent
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("sending"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    progress = stack.enter_context(Progress(*columns, console=Console(stderr=True), transient=True))
    task = progress.add_task("sending", total=total)
    return lambda count: progress.advance(task, count)
