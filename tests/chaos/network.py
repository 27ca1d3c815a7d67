"""A network of the daemon's own: a namespace with one link to here, which can be cut. Linux, and root."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.chaos.machine import UnavailableError, command

_SECONDS = 10
_NEIGHBOUR = ("ip", "neighbour")
#: An Ethernet address that nobody has. A link that is down would be told to both ends, and the packets for the other
#: one take the way to the world.
_NOBODY = "02:00:00:00:00:01"


class Network:
    """`here` and `there` are the addresses of the two ends; what is started behind `prefix` is there."""

    def __init__(self, holder: int) -> None:
        self.prefix = ["nsenter", f"--net=/proc/{holder}/ns/net"]
        self._device = f"chaos{os.getpid()}"
        third = os.getpid() % 250
        self.here, self.there = f"10.213.{third}.1", f"10.213.{third}.2"
        command("ip", "link", "add", self._device, "type", "veth", "peer", "name", "chaos", "netns", str(holder))
        command("ip", "address", "add", f"{self.here}/30", "dev", self._device)
        command(*self.prefix, "ip", "address", "add", f"{self.there}/30", "dev", "chaos")
        for device in ("lo", "chaos"):
            command(*self.prefix, "ip", "link", "set", device, "up")
        command("ip", "link", "set", self._device, "up")
        self._neighbours: list[tuple[list[str], str, str]] = [
            ([], self._device, self.there),
            (self.prefix, "chaos", self.here),
        ]

    def cut(self) -> None:
        """From now on nothing arrives, and nobody is told so."""
        for prefix, device, address in self._neighbours:
            command(*prefix, *_NEIGHBOUR, "replace", address, "lladdr", _NOBODY, "nud", "permanent", "dev", device)

    def mend(self) -> None:
        """Let it go on."""
        for prefix, device, address in self._neighbours:
            command(*prefix, *_NEIGHBOUR, "delete", address, "dev", device)

    def close(self) -> None:
        """Take the link away, now and not whenever the kernel finds the time."""
        command("ip", "link", "delete", self._device)


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """A network until the block ends, or until this process does; UnavailableError where none can be made."""
    if os.geteuid() != 0:
        raise UnavailableError("a network namespace takes root")
    try:
        holder = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "unshare", "-n", "sleep", "infinity"])
    except OSError as error:
        raise UnavailableError(f"no network namespace can be made: {error}") from error
    try:
        _wait_for_namespace(holder)
        made = Network(holder.pid)
        yield made
        made.close()
    finally:
        holder.kill()
        holder.wait()


def _wait_for_namespace(holder: subprocess.Popen[bytes]) -> None:
    ours, its = Path("/proc/self/ns/net").readlink(), Path(f"/proc/{holder.pid}/ns/net")
    end = time.monotonic() + _SECONDS
    while holder.poll() is None and time.monotonic() < end:
        if its.readlink() != ours:
            return
        time.sleep(0.01)
    raise UnavailableError("no network namespace can be made here: unshare -n fails")
