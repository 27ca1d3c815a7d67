"""Logs of mcp-ingest itself: what was rotated or copied away of them is never input."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_ingest.config.model import LogSettings
from mcp_ingest.engine.log import set_up
from mcp_ingest.metrics import Metrics
from tests.inputs.tail.durable import Durable, append, tailing, until


@pytest.fixture
def logger(tmp_path: Path) -> Iterator[logging.Logger]:
    """The daemon's logger, which writes to `own.log`."""
    made = set_up(LogSettings(file=str(tmp_path / "own.log")), Metrics(), worker=1)
    made.propagate = True  # to pytest
    yield made
    for handler in list(made.handlers):
        made.removeHandler(handler)
        handler.close()


async def test_our_own_rotated_log_is_passed_over(
    tmp_path: Path, logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    """Renamed, or copied piece by piece while it is followed; also after a restart; its neighbours are read."""
    caplog.set_level(logging.INFO, logger="mcp_ingest")
    for number in range(50):
        logger.warning("a line %d of our own", number)
        logger.info("another")
    own = tmp_path / "own.log"
    data = own.read_bytes()
    own.rename(tmp_path / "own.log.1")
    append(tmp_path / "app.log", "one")
    durable = Durable()
    async with tailing(durable, tmp_path / "*.log*"):
        await until(lambda: durable.messages == ["one"])
        with (tmp_path / "own.log.2").open("wb", buffering=0) as copied:
            for start in range(0, len(data), 50):
                copied.write(data[start : start + 50])
                if start < 300:
                    append(tmp_path / "app.log", str(start))
                    await until(lambda start=start: durable.messages[-1] == str(start))  # type: ignore[misc]
        await until(lambda: len(durable.files) == 3)
    async with tailing(durable, tmp_path / "*.log*"):
        append(tmp_path / "app.log", "last")
        await until(lambda: durable.messages[-1] == "last")
    assert {message for message in durable.messages if not message.isdigit()} == {"one", "last"}
    assert not durable.letters
    stored = [json.loads(durable.positions[key]) for key in durable.files]
    positions = {each["path"]: each["offset"] for each in stored}
    assert positions[str(tmp_path / "own.log.2")] == len(data)
    assert sum("own.log.1 is a log of mcp-ingest" in record.getMessage() for record in caplog.records) == 2


async def test_what_stands_in_its_place_later_is_read(tmp_path: Path, logger: logging.Logger) -> None:
    """A file that was a log of ours and is written anew by somebody else is read from its head."""
    logger.warning("a line of our own, long enough that what comes in its place is shorter")
    logger.warning("another one")
    path = tmp_path / "own.log"
    durable = Durable()
    async with tailing(durable, path):
        await until(lambda: len(durable.files) == 1)
        path.write_text("theirs\n")
        await until(lambda: durable.messages == ["theirs"])
        append(path, "more")
        await until(lambda: durable.messages == ["theirs", "more"])


async def test_lines_that_speak_of_us_are_read(tmp_path: Path) -> None:
    """Only how the file's first line begins counts, exactly as our log writes it."""
    lines = [
        '{"service_name":"mcp-ingest","logger":"mcp_ingest","message":"by another library"}',
        '{"timestamp":"2026-11-23T02:07:31.021Z","service_name":"shop","log_level":"INFO","logger":"mcp_ingest"}',
        '{"timestamp":"2026-11-23T02:07:31.021Z","service_name":"mcp-ingest","log_level":"INFO","logger":"mcp_ingest"}',
    ]
    durable = Durable()
    append(tmp_path / "a.log", *lines)
    async with tailing(durable, tmp_path / "a.log"):
        await until(lambda: durable.messages == lines)
