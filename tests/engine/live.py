"""A daemon in this process whose configuration a test changes, and senders that number their events."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import yaml

from mcp_ingest.client.forward import ForwardSender
from mcp_ingest.config.load import load
from mcp_ingest.engine.daemon import Daemon
from mcp_ingest.engine.reload import Taken
from mcp_ingest.metrics import Metrics


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Live:
    """`reload(section=…)` writes the configuration with these sections in place of the present ones."""

    def __init__(self, directory: Path, **sections: Any) -> None:
        self.directory = directory
        self.path = directory / "config.yaml"
        self.sections: dict[str, Any] = {
            "inputs": {"forward": {"host": "127.0.0.1", "port": free_port()}},
            "pipelines": {"p": {"match": "**", "stages": ["redact"]}},
            "outputs": {"archive": self.file("all")},
            "spool": {"directory": str(directory / "spool"), "ballast_bytes": "64KiB"},
            **sections,
        }
        self.write()
        self.daemon = Daemon(load(str(self.path)), Metrics(), logging.getLogger("test"))

    def file(self, name: str) -> dict[str, Any]:
        """Settings of an output `file`."""
        return {"type": "file", "path": str(self.directory / "out" / f"{name}.ndjson")}

    def lines(self, name: str) -> list[str]:
        """What such an output has written."""
        path = self.directory / "out" / f"{name}.ndjson"
        return path.read_text().splitlines() if path.exists() else []

    def write(self, **sections: Any) -> None:
        self.sections.update(sections)
        self.path.write_text(yaml.safe_dump(self.sections, sort_keys=False))

    async def reload(self, **sections: Any) -> Taken:
        self.write(**sections)
        return await self.daemon.reloader.reload()

    @property
    def port(self) -> int:
        """Where the first forward input listens."""
        return int(self.sections["inputs"]["forward"]["port"])

    def sender(self, port: int | None = None, **options: Any) -> ForwardSender:
        return ForwardSender(port=port or self.port, timeout=10, **options)

    def delivered(self, output: str = "archive") -> int:
        return int(self.daemon.status()["outputs"][output]["delivered"])

    def assert_closed(self) -> None:
        """All sums of the ledger close."""
        sums = self.daemon.status()["sums"]
        assert all(row["closed"] for row in sums), sums


@contextlib.asynccontextmanager
async def living(directory: Path, **sections: Any) -> AsyncIterator[Live]:
    """A running daemon for the length of a block."""
    live = Live(directory, **sections)
    async with asyncio.TaskGroup() as group:
        group.create_task(live.daemon.run())
        await asyncio.wait_for(live.daemon.graph.listens.wait(), 10)
        try:
            yield live
        finally:
            live.daemon.stop()


async def send(sender: ForwardSender, *messages: str, tag: str = "t") -> None:
    """Send one chunk of these messages, and wait for its acknowledgement."""
    await asyncio.to_thread(sender.send, tag, [(0, {"message": message}) for message in messages])
