"""Write-ahead logs that SQLite itself has written, frame by frame."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from mcp_ingest.codecs import sqlite_log as codec
from mcp_ingest.errors import DecodeError

FRAME = codec.FRAME_HEADER_BYTES + 4096


@pytest.fixture
def log(tmp_path: Path) -> bytes:
    """A log of three commits, as it stands while the database is open."""
    connection = sqlite3.connect(tmp_path / "t.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL").fetchall()
    connection.execute("CREATE TABLE t (a)")
    connection.execute("INSERT INTO t VALUES (?)", (b"x" * 9000,))
    connection.execute("INSERT INTO t VALUES (?)", (b"y" * 9000,))
    data = (tmp_path / "t.db-wal").read_bytes()
    connection.close()
    return data


def test_every_frame_is_right(log: bytes) -> None:
    """Each frame's checksum goes on from the one before, and the last frame of a commit says the database's size."""
    header = codec.log_header(log)
    assert header.whole
    before, sizes = header.checksum, []
    for start in range(codec.HEADER_BYTES, len(log), FRAME):
        head, page = log[start : start + 24], log[start + 24 : start + FRAME]
        assert codec.is_right(head, page, before, big=header.big)
        assert not codec.is_right(head, page[:-1] + b"\1", before, big=header.big)
        frame = codec.frame(head)
        assert frame.salt == header.salt
        before = frame.checksum
        sizes.append(frame.size)
    assert [size for size in sizes if size] == [2, 4, 6]
    assert sizes[-1] == 6


def test_a_damaged_header(log: bytes) -> None:
    """A header with a changed salt says so; one with another magic, or cut off, is none."""
    assert not codec.log_header(log[:16] + b"\xff" + log[17:32]).whole
    for data in (b"", log[:31], b"\0" + log[1:]):
        with pytest.raises(DecodeError):
            codec.log_header(data)
