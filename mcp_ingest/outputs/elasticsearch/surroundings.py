"""What a connection rests on and what may change under it: certificate and secret files, the addresses of names."""

from __future__ import annotations

import asyncio
import ipaddress
import os
from collections.abc import Sequence

Stat = tuple[int, int, int, int] | None


class Files:
    """Files whose content counts; a change is seen by their stat, also when one is replaced or linked anew."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._stats: dict[str, Stat] = {path: _stat(path) for path in paths}

    def changed(self) -> bool:
        """Whether any of them is not what it was when this was asked last."""
        before, self._stats = self._stats, {path: _stat(path) for path in self._stats}
        return self._stats != before


def _stat(path: str) -> Stat:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


class Names:
    """Host names and ports whose addresses are looked up again."""

    def __init__(self, hosts: Sequence[tuple[str, int]]) -> None:
        self._hosts = [host for host in dict.fromkeys(hosts) if not _is_address(host[0])]
        self._addresses: dict[tuple[str, int], frozenset[str]] = {}

    async def changed(self) -> bool:
        """Whether an address that a name had is no longer its own; a name server that is away changes nothing."""
        gone = False
        for host in self._hosts:
            found = await _addresses(*host)
            if found:
                gone |= bool(self._addresses.get(host, found) - found)
                self._addresses[host] = found
        return gone


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def _addresses(host: str, port: int) -> frozenset[str]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port)
    except (OSError, UnicodeError):
        return frozenset()
    return frozenset(str(address[4][0]) for address in found)
