"""A listener that answers as the daemon does, and a spool that a daemon left behind."""

from __future__ import annotations

import contextlib
import http.server
import json
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
    LetterKey,
    NewChunk,
    OutputKey,
    SpoolSettings,
)


@contextlib.contextmanager
def answering(pages: dict[str, Any]) -> Iterator[int]:
    """Serve these paths as JSON, all others as 404; yields the port.

    What is posted is answered by the function at `POST PATH`, which gets the body.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(pages.get(self.path))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.headers["Content-Type"] == "application/json"
            found = pages.get(f"POST {self.path}")
            self.answer(found(body) if found else None)

        def answer(self, found: Any) -> None:
            body = json.dumps({"error": "no such page"} if found is None else found).encode()
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  http.server's name
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def configuration(folder: Path, port: int) -> str:
    """A configuration whose daemon listens on `port` and whose spool is in `folder`; its path."""
    path = folder / "c.yaml"
    path.write_text(
        f"inputs: {{forward: }}\noutputs: {{stdout: }}\nspool: {{directory: {folder}/spool}}\n"
        f"http: {{port: {port}}}\npipelines: {{mcp: {{match: '**', stages: [redact]}}}}\n"
    )
    return str(path)


async def leave_a_spool(folder: Path) -> None:
    """Three events of which one is a dead letter and two are still owed to the output `stdout`."""
    settings = SpoolSettings(directory=str(folder / "spool"), ballast_bytes=ByteSize(1024))
    spool = Spool(settings, {"stdout": "stdout"}, SystemClock(), logging.getLogger("mcp_ingest.test"), Metrics())
    prefix = hashed_prefix(b"source")
    intake = Intake()
    intake.chunks.append(
        NewChunk.of(
            "mcp",
            NORMAL,
            [prefix + suffix for suffix in id_suffixes([0, 1])],
            ["mcp", "mcp"],
            [b"{}", b"{}"],
            {"stdout": ["-", "-"]},
        )
    )
    intake.letters.append(
        DeadLetter(
            time=time.time_ns(),
            reason="not JSON:\nline 1",
            kind="stage",
            tag="mcp",
            record=b'{"message": "oops"}',
            event_id="x",
            event_time=0,
            input="forward",
            pipeline="mcp",
            stage="parse_json",
        )
    )
    intake.ledger.update(
        {
            InputKey("forward", "mcp", Term.RECEIVED): 3,
            InputKey("forward", "mcp", Term.ACCEPTED): 2,
            InputKey("forward", "mcp", Term.DEAD_LETTERED, "stage"): 1,
            OutputKey("stdout", Term.ASSIGNED): 2,
            LetterKey(Term.DEAD_LETTERED, "stage"): 1,
        }
    )
    await spool.open()
    try:
        await spool.commit(intake)
    finally:
        await spool.close()
