"""The daemon's own log."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Literal

from mcp_ingest.config.model import LogSettings
from mcp_ingest.engine.log import BURST, files_written_to, set_up
from mcp_ingest.metrics import Metrics

STYLES: tuple[Literal["json", "plain"], ...] = ("json", "plain")


def _lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_flood_is_held_back(tmp_path: Path) -> None:
    """The same line over and over is written a few times only, and counted; another line passes."""
    metrics = Metrics()
    logger = set_up(LogSettings(file=str(tmp_path / "log")), metrics)
    for number in range(1000):
        logger.warning("connection %d refused", number)
    logger.warning("something else")
    lines = _lines(tmp_path / "log")
    assert len(lines) == BURST + 1
    assert metrics.registry.get_sample_value("mcp_ingest_log_suppressed_lines_total") == 1000 - BURST


def test_json_lines_follow_the_schema(tmp_path: Path) -> None:
    """A line of JSON has the platform's fields, and an exception's trace when there is one."""
    logger = set_up(LogSettings(file=str(tmp_path / "log")), Metrics())
    try:
        raise ValueError("no")
    except ValueError:
        logger.exception("failed: %s", "x")
    (line,) = _lines(tmp_path / "log")
    assert line["log_level"] == "ERROR"
    assert line["message"] == "failed: x"
    assert line["timestamp"].endswith("Z")
    assert "ValueError: no" in line["exception"]


def test_the_level_is_kept(tmp_path: Path) -> None:
    """Lines below the level are not written."""
    logger = set_up(LogSettings(level="warning", file=str(tmp_path / "log")), Metrics())
    logger.info("quiet")
    assert _lines(tmp_path / "log") == []
    assert logger.level == logging.WARNING


def test_the_files_of_our_own_log_are_known(tmp_path: Path) -> None:
    """What the daemon writes to can be told from other files, so that no input reads it."""
    logger = set_up(LogSettings(file=str(tmp_path / "log")), Metrics())
    status = (tmp_path / "log").stat()
    assert (status.st_dev, status.st_ino) in files_written_to(logger)


def test_a_line_that_is_no_utf8_is_written(tmp_path: Path) -> None:
    """A file's name that is not UTF-8 costs neither the line nor the daemon."""
    for style in STYLES:
        logger = set_up(LogSettings(format=style, file=str(tmp_path / style)), Metrics())
        logger.warning("cannot read %s", "/var/log/\udcff")
        assert "cannot read /var/log/" in (tmp_path / style).read_text()


def test_a_trace_is_masked(tmp_path: Path) -> None:
    """What an exception says of an event does not reach the disk unmasked."""
    for style in STYLES:
        logger = set_up(LogSettings(format=style, file=str(tmp_path / style)), Metrics())
        try:
            raise KeyError("password=hunter22 card 4111 1111 1111 1111")
        except KeyError:
            logger.exception("failed")
        text = (tmp_path / style).read_text()
        assert "KeyError" in text
        assert "hunter22" not in text
        assert "4111 1111" not in text
