"""The peers: other programs that do the same work, each with its configurations in a folder of its name.

`NAME/SCENARIO.*` is the configuration for a scenario; scenarios that differ only in how events are sent share one.
`@FORWARD_PORT@`, `@HTTP_PORT@`, `@SINK_PORT@`, `@DIRECTORY@` (the run's own folder), `@FILES@` (the glob to tail) and
`@HERE@` (the folder of the configuration) are put in for each run. A peer must be installed and on the PATH; nothing is
fetched for it. They buffer in files where the issue's figures of theirs did, none of them with fsync.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from perf.program import Command, Place, tails
from perf.scenario import Scenario

_FOLDER = Path(__file__).parent
#: The scenario whose configuration serves for another one.
_SAME = {"S10": "S2", "S3_ONE": "S3", "IDLE": "S3"}


@dataclass(frozen=True)
class Peer:
    """A program that is installed, started with one of its configurations."""

    name: str
    executable: str
    arguments: Sequence[str]
    version_argument: str
    #: Where Debian puts it is not on everybody's PATH.
    also_in: str = "/usr/sbin"
    quiet_seconds: float = 5.0

    def _path(self) -> str | None:
        return shutil.which(self.executable, path=f"{os.environ.get('PATH', '')}:{self.also_in}")

    def missing(self) -> str | None:
        """Why it cannot be measured here; None if it can."""
        if self._path() is None:
            return f"{self.name} is not measured: there is no `{self.executable}` on the PATH"
        return None

    def _configuration(self, scenario: Scenario) -> Path | None:
        name = _SAME.get(scenario.name, scenario.name).lower()
        return next((_FOLDER / self.name).glob(f"{name}.*"), None)

    def can(self, scenario: Scenario) -> bool:
        """Whether there is a configuration of it for this scenario."""
        return self._configuration(scenario) is not None

    def version(self) -> str:
        """The first word with a digit of what it says itself."""
        path = self._path()
        assert path is not None
        done = subprocess.run([path, self.version_argument], capture_output=True, text=True, check=False)
        words = (done.stdout + done.stderr).split()
        return next((word.strip("v,") for word in words if word.strip("v")[:1].isdigit()), "unknown")

    def command(self, scenario: Scenario, place: Place) -> Command:
        """Its command line, after its configuration was written into the place."""
        template = self._configuration(scenario)
        path = self._path()
        assert template is not None
        assert path is not None
        values = {
            "@FORWARD_PORT@": str(place.forward_port),
            "@HTTP_PORT@": str(place.http_port),
            "@SINK_PORT@": str(place.sink_port),
            "@DIRECTORY@": str(place.directory),
            "@FILES@": place.files,
            "@HERE@": str(template.parent),
        }
        text = template.read_text()
        for name, value in values.items():
            text = text.replace(name, value)
        written = place.directory / template.name
        written.write_text(text)
        given = {"CONFIGURATION": str(written), "DIRECTORY": str(place.directory)}
        line = [path, *(argument.format_map(given) for argument in self.arguments)]
        return Command(line, None if tails(scenario) else place.forward_port, {"HOSTNAME": platform.node()})

    def ready(self, place: Place) -> bool:
        """It cannot be asked: it is ready when it listens."""
        return True

    def settled(self, place: Place, sent: int, documents: int) -> bool | None:
        """It cannot tell: what is missing in the sink after a quiet time does not come any more."""
        return None


PEERS = {
    peer.name: peer
    for peer in (
        Peer("fluentd", "fluentd", ["-c", "{CONFIGURATION}"], "--version"),
        Peer("fluent-bit", "fluent-bit", ["-c", "{CONFIGURATION}"], "--version", also_in="/opt/fluent-bit/bin"),
        Peer("rsyslog", "rsyslogd", ["-n", "-f", "{CONFIGURATION}", "-i", "{DIRECTORY}/pid"], "-v"),
    )
}
