"""The daemon's own log: plain for a terminal, JSON otherwise, rate-limited so that trouble does not become a flood."""

from __future__ import annotations

import logging
import os
import stat
import sys
import time
from typing import Any

import orjson

from mcp_ingest.codecs.values import clean
from mcp_ingest.config.model import LogSettings
from mcp_ingest.engine import letters
from mcp_ingest.engine.lines import iso
from mcp_ingest.metrics import LOG_SUPPRESSED, Metrics

#: Lines of one kind (same logger, same text before its arguments) in one window of so many seconds.
BURST, WINDOW = 10, 30.0


class RateLimit(logging.Filter):
    """Lets through `BURST` lines of a kind in a window; the next window's first says how many were held back."""

    def __init__(self, metrics: Metrics | None = None) -> None:
        super().__init__()
        self._suppressed = metrics.counter(LOG_SUPPRESSED) if metrics else None
        self._kinds: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this line is written."""
        now = time.monotonic()
        key = (record.name, str(record.msg))
        began, count = self._kinds.get(key, (now, 0))
        if now - began > WINDOW:
            if count > BURST:
                record.msg = f"{record.msg} ({count - BURST} more lines like this were held back)"
            began, count = now, 0
        if len(self._kinds) > 1000:
            self._kinds.clear()
        self._kinds[key] = (began, count + 1)
        if count < BURST:
            return True
        if self._suppressed:
            self._suppressed.inc()
        return False


class _Formatter(logging.Formatter):
    """Masks traces: an exception may say anything of the event that it met."""

    def formatException(self, ei: Any) -> str:  # noqa: N802  logging's name
        return letters.safe_text(super().formatException(ei))


class PlainFormatter(_Formatter):
    """`15:04:05 WARNING output elasticsearch: …`; behind the level the worker, if there are several."""

    def __init__(self, worker: int | None = None) -> None:
        who = "" if worker is None else f"worker {worker}: "
        super().__init__(f"%(asctime)s %(levelname)-7s {who}%(message)s", "%H:%M:%S")


class JsonFormatter(_Formatter):
    """One object of the platform's schema for each line; `worker` is its number, if there are several."""

    def __init__(self, worker: int | None = None) -> None:
        super().__init__()
        self._worker = {} if worker is None else {"worker": worker}

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "timestamp": iso(int(record.created * 1e9) // 1_000_000 * 1_000_000),
            "service_name": "mcp-ingest",
            "log_level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **self._worker,
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(clean(line)[0]).decode()


def set_up(settings: LogSettings, metrics: Metrics, worker: int | None = None) -> logging.Logger:
    """The daemon's logger, writing where the settings say; replaces what an earlier call set up.

    `worker` is the number of one of several.
    """
    handler: logging.Handler
    handler = (
        logging.FileHandler(settings.file, encoding="utf-8", errors="backslashreplace")
        if settings.file
        else logging.StreamHandler(sys.stderr)
    )
    plain = settings.format == "plain" or (settings.format == "auto" and not settings.file and sys.stderr.isatty())
    handler.setFormatter(PlainFormatter(worker) if plain else JsonFormatter(worker))
    handler.addFilter(RateLimit(metrics))
    logger = logging.getLogger("mcp_ingest")
    for old in list(logger.handlers):
        logger.removeHandler(old)
        old.close()
    logger.addHandler(handler)
    logger.setLevel(settings.level.upper())
    logger.propagate = False
    return logger


def files_written_to(logger: logging.Logger) -> frozenset[tuple[int, int]]:
    """Device and inode of the files that the daemon's own words go to, standard output redirected to one included."""
    descriptors = [sys.__stdout__, sys.__stderr__, *(getattr(each, "stream", None) for each in logger.handlers)]
    found = set()
    for descriptor in descriptors:
        try:
            status = os.fstat(descriptor.fileno()) if descriptor is not None else None
        except (OSError, ValueError, AttributeError):
            continue  # closed, or no file
        if status is not None and stat.S_ISREG(status.st_mode):
            found.add((status.st_dev, status.st_ino))
    return frozenset(found)
