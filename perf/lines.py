"""Files for the inputs that tail: one with very many lines, and very many with few."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from perf.records import json_lines

_DIFFERENT = 20_000  # lines that differ; they come again and again, as in the load generator
_STEP_SECONDS = 0.01


def file_of_lines(folder: Path, count: int) -> Path:
    """A file of so many JSON lines in this folder, made once, and on the disk when it is returned."""
    path = folder / f"{count}.ndjson"
    if not path.exists():
        different = list(json_lines(min(count, _DIFFERENT), 1))
        with path.open("wb") as file:
            for start in range(0, count, len(different)):
                file.write(b"".join(_ended(line) for line in different[: count - start]))
            file.flush()
            os.fsync(file.fileno())
    return path


def _ended(line: bytes) -> bytes:
    return line if line.endswith(b"\n") else line + b"\n"


def make_files(folder: Path, count: int) -> list[Path]:
    """So many files with one line each."""
    paths = [folder / f"{number:05}.log" for number in range(count)]
    for path in paths:
        path.write_bytes(b'{"message":"started"}\n')
    return paths


def grow(paths: list[Path], rate: int, seconds: float) -> int:
    """Append lines to these files in turn, so many a second in all; each has `sent_ns`. Returns how many there are."""
    written = 0
    with ExitStack() as stack:
        files = itertools.cycle([stack.enter_context(path.open("ab", buffering=0)) for path in paths])
        lines = _forever()
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            while written < passed * rate:
                next(files).write(b'{"sent_ns":%d,' % time.time_ns() + next(lines))
                written += 1
            time.sleep(_STEP_SECONDS)
    return written


def _forever() -> Iterator[bytes]:
    return itertools.cycle([_ended(line).removeprefix(b"{") for line in json_lines(1_000, 1)])
