"""The programs that are measured: mcp-ingest here, its peers in `peers`, all behind one contract."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

from mcp_ingest import __version__
from perf.processes import MeasureError, fetch, free_port, python
from perf.scenario import ROOT, Lines, ManyFiles, Scenario


class Place:
    """Where one run takes place: a folder of its own, and ports that nobody else uses."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.logs = directory / "logs"
        self.logs.mkdir()
        self.forward_port, self.http_port, self.sink_port = free_port(), free_port(), free_port()

    @property
    def files(self) -> str:
        """The glob of the files to tail."""
        return str(self.logs / "*.log")


@dataclass(frozen=True)
class Command:
    """How a program is started, and the port that it listens on when it is ready (None: none)."""

    line: Sequence[str]
    port: int | None
    environment: dict[str, str]


class Program(Protocol):
    """One that takes logs and delivers them."""

    @property
    def name(self) -> str:
        """As on the command line."""
        ...

    @property
    def quiet_seconds(self) -> float:
        """Seconds without a new document until it is asked, or until nothing more is expected where it cannot tell."""
        ...

    def missing(self) -> str | None:
        """Why it cannot be measured here; None if it can."""
        ...

    def can(self, scenario: Scenario) -> bool:
        """Whether it has a configuration for this scenario."""
        ...

    def version(self) -> str:
        """Its version, for the report."""
        ...

    def command(self, scenario: Scenario, place: Place) -> Command:
        """Write its configuration into the place; say how to start it."""
        ...

    def ready(self, place: Place) -> bool:
        """Whether it takes events, given that it listens."""
        ...

    def settled(self, place: Place, sent: int, documents: int) -> bool | None:
        """Whether all that was sent is accounted for; None if it cannot tell. MeasureError if its books are wrong.

        `documents` is what the sink has.
        """
        ...


def tails(scenario: Scenario) -> bool:
    """Whether the scenario's events come from files; they come by forward otherwise."""
    return isinstance(scenario.load, Lines | ManyFiles)


class McpIngest:
    """This daemon, with all its defaults but for folders and ports."""

    name = "mcp-ingest"
    quiet_seconds = 0.2

    def missing(self) -> str | None:
        """It is always there."""
        return None

    def can(self, scenario: Scenario) -> bool:
        """Scenarios are made for it."""
        return True

    def version(self) -> str:
        """The package's."""
        return __version__

    def command(self, scenario: Scenario, place: Place) -> Command:
        """`mcp-ingest run -c FILE`."""
        path = place.directory / "mcp-ingest.yaml"
        path.write_text(yaml.safe_dump(configuration(scenario, place), sort_keys=False))
        port = place.http_port if tails(scenario) else place.forward_port
        # a user's interpreter writes what it compiled, and so may this one
        environment = {"MCP_ENVIRONMENT": "production", "PYTHONDONTWRITEBYTECODE": "", "PYTHONPATH": str(ROOT)}
        return Command(python("mcp_ingest", "run", "-c", path), port, environment)

    def ready(self, place: Place) -> bool:
        """Whether `/status` knows no reason why it is not."""
        status = self._status(place)
        return bool(status) and status["ready"] is None

    def settled(self, place: Place, sent: int, documents: int) -> bool | None:
        """All received, nothing held, every sum closed, and as many documents in the sink as it says."""
        status = self._status(place)
        if not status or any(output["held"] for output in status["outputs"].values()):
            return False
        if sum(each["received"] for each in status["inputs"].values()) < sent:
            return False
        (output,) = status["outputs"].values()
        if open_sums := [row for row in status["sums"] if not row["closed"]]:
            raise MeasureError(f"the ledger does not close: {open_sums}")
        if status["spool"]["dead_letters"]:
            raise MeasureError(f"there are {status['spool']['dead_letters']} dead letters")
        if output["type"] == "elasticsearch" and output["delivered"] != documents:
            raise MeasureError(f"{output['delivered']} are delivered, and the sink has {documents}")
        return True

    def _status(self, place: Place) -> dict[str, Any]:
        try:
            found: dict[str, Any] = fetch(f"http://127.0.0.1:{place.http_port}/status")
        except OSError:
            return {}
        return found


def configuration(scenario: Scenario, place: Place) -> dict[str, Any]:
    """The file that mcp-ingest is started with."""
    forward = {"host": "127.0.0.1", "port": place.forward_port}
    start_at = "head" if isinstance(scenario.load, Lines) else "end"
    tail = {"paths": [place.files], "start_at": start_at, "tag": "perf"}
    pipeline: dict[str, Any] = (
        {"include": os.fspath(ROOT / scenario.stages)}
        if isinstance(scenario.stages, str)
        else {"pipelines": {"perf": {"match": "**", "stages": list(scenario.stages)}}}
    )
    outputs: dict[str, Any] = {
        "elasticsearch": {"hosts": [f"http://127.0.0.1:{place.sink_port}"]},
        "store": {"directory": str(place.directory / "store")},
        "blackhole": None,
    }
    return {
        **pipeline,
        "inputs": {"tail": tail} if tails(scenario) else {"forward": forward},
        "outputs": {scenario.output: outputs[scenario.output]},
        "spool": {"directory": str(place.directory / "spool")},
        "http": {"port": place.http_port},
        "workers": scenario.workers,
    }
