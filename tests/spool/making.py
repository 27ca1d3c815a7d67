"""What the spool's tests build from: intakes, settlements, spools in a folder of the test's own."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from mcp_ingest.component import ByteSize
from mcp_ingest.context import SystemClock
from mcp_ingest.event import Term, hashed_prefix, id_suffixes
from mcp_ingest.metrics import Metrics
from mcp_ingest.spool import Spool
from mcp_ingest.spool.model import (
    NORMAL,
    DeadLetter,
    InputKey,
    Intake,
    NewChunk,
    OutputKey,
    Pending,
    Settlement,
    SpoolSettings,
)

OUTPUTS = {"elasticsearch": "elasticsearch", "archive": "file"}
PREFIX = hashed_prefix(b"a source")


def settings(directory: Path, max_bytes: int = 2**30, ballast: int = 2**20) -> SpoolSettings:
    return SpoolSettings(directory=str(directory), max_bytes=ByteSize(max_bytes), ballast_bytes=ByteSize(ballast))


def new_spool(
    directory: Path,
    outputs: Mapping[str, str] = OUTPUTS,
    max_bytes: int = 2**30,
    ballast: int = 2**20,
    metrics: Metrics | None = None,
) -> Spool:
    return Spool(
        settings(directory, max_bytes, ballast),
        outputs,
        SystemClock(),
        logging.getLogger("mcp_ingest.test"),
        metrics or Metrics(),
    )


@asynccontextmanager
async def opened(
    directory: Path,
    outputs: Mapping[str, str] = OUTPUTS,
    max_bytes: int = 2**30,
    ballast: int = 2**20,
    metrics: Metrics | None = None,
) -> AsyncIterator[Spool]:
    spool = new_spool(directory, outputs, max_bytes, ballast, metrics)
    await spool.open()
    try:
        yield spool
    finally:
        await spool.close()


def noise(size: int) -> bytes:
    """Bytes for a line that no compression makes smaller."""
    return os.urandom(size).replace(b"\n", b" ")


def chunk(
    count: int = 3, outputs: tuple[str, ...] = ("elasticsearch",), first: int = 0, line: bytes | None = None
) -> NewChunk:
    """A chunk whose events are told apart by `first`."""
    numbers = range(first, first + count)
    return NewChunk.of(
        pipeline="mcp",
        priority=NORMAL,
        ids=[PREFIX + suffix for suffix in id_suffixes(list(numbers))],
        tags=["mcp.app"] * count,
        lines=[line or b'{"message":"event %d"}' % number for number in numbers],
        destinations={output: ["logs-2026.11.22"] * count for output in outputs},
    )


def intake(*chunks: NewChunk, **positions: bytes | None) -> Intake:
    """An intake with these chunks, positions, and what the ledger has of it."""
    made = Intake(chunks=list(chunks), positions=dict(positions))
    for each in chunks:
        made.ledger[InputKey("forward", "mcp", Term.ACCEPTED)] += len(each.tags)
        for output in each.destinations:
            made.ledger[OutputKey(output, Term.ASSIGNED)] += len(each.tags)
    return made


def delivered(output: str, mark: int, count: int, *pending: Pending) -> Settlement:
    return Settlement(output, mark, list(pending), ledger=Counter({OutputKey(output, Term.DELIVERED): count}))


def letter(
    reason: str = "refused", output: str = "", pipeline: str = "", died: int | None = None, record: bytes = b"{}"
) -> DeadLetter:
    return DeadLetter(
        time=time.time_ns() if died is None else died,
        reason=reason,
        kind="refused",
        tag="mcp.app",
        record=record,
        event_id="id",
        event_time=2,
        output=output,
        pipeline=pipeline,
    )
