"""Lines on standard output."""

from __future__ import annotations

import subprocess
import sys

from mcp_ingest.component import find
from mcp_ingest.context import Context
from mcp_ingest.event import Batch, Origin

_PROGRAM = """
import asyncio, sys
from mcp_ingest.context import Context
from mcp_ingest.outputs.stdout import Stdout
from mcp_ingest.verdict import Part, Request
lines = [b'{"n": %d}' % n for n in range(int(sys.argv[1]))]
count = len(lines)
part = Part("a-1", ["i"] * count, [0] * count, ["t"] * count, ["stdout"] * count, lines)
answer = asyncio.run(Stdout(Stdout.Config(), Context()).write(Request([part])))
print(answer, file=sys.stderr)
"""


def test_lines() -> None:
    """Every event is a line, also when the reader is a pipe that fills up."""
    done = subprocess.run([sys.executable, "-c", _PROGRAM, "50000"], capture_output=True, check=True)
    assert done.stdout == b"".join(b'{"n": %d}\n' % n for n in range(50_000))
    assert b"AllDelivered" in done.stderr


def test_a_closed_pipe() -> None:
    """When nobody reads any more, the output says so and keeps the events."""
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, "50000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert b"ParkAll" in process.stderr.read()


def test_address() -> None:
    """There is one place for all."""
    component = find("output", "stdout")
    batch = Batch.of(Origin("i", "p" * 20, 1), "t", [1, 1], [{}, {}], [0, 1])
    assert component(component.Config(), Context()).address(batch) == ["stdout", "stdout"]
