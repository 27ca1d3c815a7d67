"""What a connection rests on and what may change under it."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from mcp_ingest.outputs.elasticsearch.surroundings import Files, Names


def test_a_change_of_a_file_is_seen_once(tmp_path: Path) -> None:
    """New content, a new file under the name, a link to another one, one that goes and one that comes."""
    file, other, link = tmp_path / "a", tmp_path / "b", tmp_path / "link"
    file.write_text("one")
    other.write_text("two")
    link.symlink_to(file)
    files = Files([str(file), str(link), str(tmp_path / "later")])
    assert not files.changed()

    def rewritten() -> None:
        file.write_text("uno")
        os.utime(file, ns=(1, 1))

    def linked_anew() -> None:
        link.unlink()
        link.symlink_to(other)

    for change in (rewritten, linked_anew, lambda: (tmp_path / "later").touch(), lambda: other.replace(file)):
        change()
        assert files.changed()
        assert not files.changed()
    file.unlink()
    assert files.changed()


class _NameServer:
    """Answers for every name with what the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.addresses = ["10.0.0.1"]
        self.asked: list[str] = []
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", self.getaddrinfo, raising=False)

    async def getaddrinfo(self, host: str, port: int, **_: int) -> list[tuple[object, ...]]:
        self.asked.append(host)
        if not self.addresses:
            raise socket.gaierror("no answer")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in self.addresses]


@pytest.mark.parametrize(
    ("later", "changed"),
    [
        (["10.0.0.1"], False),
        (["10.0.0.2"], True),
        (["10.0.0.2", "10.0.0.1"], False),
        ([], False),
    ],
)
async def test_an_address_that_is_gone_is_noticed(
    monkeypatch: pytest.MonkeyPatch, later: list[str], changed: bool
) -> None:
    """One more address is no reason to leave the others; a name server that is away says nothing."""
    server = _NameServer(monkeypatch)
    names = Names([("es.example", 9200), ("es.example", 9200)])
    assert not await names.changed()
    assert server.asked == ["es.example"]
    server.addresses = later
    assert await names.changed() is changed
    assert not await names.changed()


async def test_what_is_an_address_already_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only names can change."""
    server = _NameServer(monkeypatch)
    assert not await Names([("127.0.0.1", 9200), ("::1", 9200)]).changed()
    assert server.asked == []
