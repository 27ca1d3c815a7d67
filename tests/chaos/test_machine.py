"""The small disk and the network that can be cut: real ones, where this machine lets us."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.disk import Disk, disk
from tests.chaos.machine import UnavailableError, command
from tests.chaos.network import Network, network
from tests.integration.servers import missing


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Disk]:
    try:
        with disk(tmp_path) as made:
            yield made
    except UnavailableError as why:
        missing(str(why))


@pytest.fixture
def net() -> Iterator[Network]:
    try:
        with network() as made:
            yield made
    except UnavailableError as why:
        missing(str(why))


def test_a_full_disk_takes_nothing_until_it_is_freed(small: Disk) -> None:
    """When it is filled not a byte more can be written; freed, it takes a megabyte again."""
    small.fill()
    with pytest.raises(OSError, match="No space left"):
        (small.folder / "more").write_bytes(bytes(5000))
    small.free()
    (small.folder / "more").write_bytes(bytes(2**20))


def test_a_disk_that_was_freed_stays_free_over_a_power_cut(small: Disk) -> None:
    """The cut does not bring back what filled it, and had reached the disk."""
    small.fill()
    for path in small.folder.iterdir():
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    small.free()
    small.cut_power()
    small.unmount()
    small.mount()
    (small.folder / "more").write_bytes(bytes(2**20))


def test_a_power_cut_takes_what_was_not_synced(small: Disk) -> None:
    """What was synced is there afterwards, and nothing else; in between the disk takes nothing."""
    for name in ("synced", "unsynced"):
        with (small.folder / name).open("wb") as file:
            file.write(b"x" * 5000)
            file.flush()
            if name == "synced":
                os.fsync(file.fileno())
    small.cut_power()
    with pytest.raises(OSError, match="Input/output error"):
        (small.folder / "late").write_bytes(b"x")
    small.unmount()
    small.mount()
    assert sorted(path.name for path in small.folder.iterdir()) == ["lost+found", "synced"]
    assert (small.folder / "synced").stat().st_size == 5000


def test_a_cut_network_carries_nothing_until_it_is_mended(net: Network) -> None:
    """Nobody reaches the other side of a cut link; mended, it refuses as an address without a listener does."""
    assert _reached(net.there) == "refused"
    net.cut()
    assert _reached(net.there, 0.5) == "not reached"
    net.mend()
    assert _reached(net.there) == "refused"


def test_a_command_that_fails_says_why() -> None:
    """What is not installed or ends with an error is one sentence."""
    with pytest.raises(UnavailableError, match="no-such-command"):
        command("no-such-command")
    with pytest.raises(UnavailableError, match="false"):
        command("false")


def test_nothing_is_left_behind() -> None:
    """After its block a network is gone, with its link."""
    try:
        with network() as made:
            device = made._device
            assert device in _links()
    except UnavailableError as why:
        missing(str(why))
    assert device not in _links()


def _reached(address: str, seconds: float = 10) -> str:
    """By default with the time for a packet that is lost while the link comes up, and sent again a second later."""
    try:
        socket.create_connection((address, 9), timeout=seconds).close()
    except ConnectionRefusedError:
        return "refused"
    except OSError:
        return "not reached"
    return "reached"


def _links() -> str:
    return subprocess.run(["ip", "link"], capture_output=True, text=True, check=True).stdout
