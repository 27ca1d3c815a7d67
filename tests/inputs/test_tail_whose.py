"""Which of several workers follows which file."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec
import pytest

from mcp_ingest.context import Context, Share
from mcp_ingest.inputs.tail.files import Position, open_file
from mcp_ingest.inputs.tail.whose import Whose
from tests.inputs.tail.durable import Durable, append, tailing

INODES = range(1000)


def _state(**inodes: int) -> dict[str, bytes]:
    return {
        f"tail/files/{uid}": msgspec.json.encode(Position(f"/log/{uid}", 1, inode, 0, 9, 0, "", "", 1, inode))
        for uid, inode in inodes.items()
    }


def test_alone_every_file_is_mine() -> None:
    """A daemon without workers follows whatever it finds."""
    assert all(map(Whose().mine, INODES))


def test_new_files_are_shared_out() -> None:
    """Each to exactly one, to each about as many, and to the same one each time."""
    workers = [Whose(Share(index, 3)) for index in range(3)]
    taken = [[inode for inode in INODES if worker.mine(inode)] for worker in workers]
    assert sorted(inode for mine in taken for inode in mine) == list(INODES)
    assert all(len(mine) > 250 for mine in taken)


def test_a_position_keeps_a_file_where_it_is() -> None:
    """Whatever the hash says: with the worker that has it, or with whoever goes on with a spool that is left."""
    positions = {0: _state(aa=1, bb=2), 5: _state(cc=3), 1: {"tail/other/dd": b"", "tail/files/ee": b"broken"}}
    for count in (1, 2, 3):
        spools = [*range(count), 5]
        whose = {index: Whose.of(Share(index, count, positions=positions), "tail/files/") for index in spools}
        for inode, spool in ((1, 0), (2, 0), (3, 5)):
            assert [index for index in spools if whose[index].mine(inode)] == [spool]
        for inode in INODES[4:]:
            assert len([index for index in spools if whose[index].mine(inode)]) == 1
            assert not whose[5].mine(inode)
    assert whose[0].changed == {"/log/aa": 1, "/log/bb": 2, "/log/cc": 3}


async def test_a_rotation_between_a_look_and_the_opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What then stands at the path may be the other worker's file: still each line comes to one of them, once."""
    path, lines = tmp_path / "app.log", [str(number) for number in range(40)]
    left = iter(lines)

    def rotate() -> None:
        if (line := next(left, None)) is not None:
            if path.exists():
                path.rename(tmp_path / f"app.log.{line}")
            append(path, line)

    def rotated_first(place: str) -> tuple[int, os.stat_result]:
        if place == str(path):
            rotate()
        return open_file(place)

    monkeypatch.setattr("mcp_ingest.inputs.tail.followed.open_file", rotated_first)
    one, two = Durable(), Durable()
    async with (
        asyncio.timeout(30),
        tailing(one, tmp_path / "app.log*", context=Context("app", share=Share(0, 2))),
        tailing(two, tmp_path / "app.log*", context=Context("app", share=Share(1, 2))),
    ):
        while {*one.messages, *two.messages} != {*lines}:
            rotate()
            await asyncio.sleep(0.05)
    assert sorted(one.messages + two.messages) == sorted(lines)
    assert one.messages
    assert two.messages
