"""Tests of the spool of a daemon that is not running."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_ingest.errors import SpoolError
from mcp_ingest.event import Term
from mcp_ingest.spool import SpoolReader
from mcp_ingest.spool.model import Intake, OutputKey
from tests.spool.making import OUTPUTS, chunk, intake, letter, opened

ES = "elasticsearch"


async def test_a_stopped_spool_tells_what_it_holds(tmp_path: Path) -> None:
    """Ledger, what is held, usage, positions and dead letters are read without a daemon."""
    async with opened(tmp_path) as spool:
        await spool.commit(intake(chunk(3, (ES, "archive")), file=b"7"))
        await spool.commit(Intake(letters=[letter("why")]))
        usage = spool.usage()
    with SpoolReader(tmp_path, {ES: ES}, max_bytes=9) as reader:
        assert reader.ledger()[OutputKey(ES, Term.ASSIGNED)] == 3
        assert reader.outputs() == [ES]
        assert (reader.held(ES).events, reader.held("nobody").events) == (3, 0)
        assert reader.backlog_of_removed_outputs()["archive (file)"].events == 3
        assert reader.positions("fi") == {"file": b"7"}
        assert (reader.usage().chunks, reader.usage().oldest) == (usage.chunks, usage.oldest)
        (found,) = reader.letters(10)
        assert reader.letter(found.number) == found
    with SpoolReader(tmp_path) as reader:
        assert sorted(reader.outputs()) == sorted(OUTPUTS)


async def test_a_running_daemons_spool_is_not_touched(tmp_path: Path) -> None:
    """While a process has the spool, reading it is an error that names the process."""
    async with opened(tmp_path):
        with pytest.raises(SpoolError, match="in use by process"), SpoolReader(tmp_path):
            pass


def test_no_spool_is_said_so(tmp_path: Path) -> None:
    """A folder without a spool is an error, and stays without one."""
    with pytest.raises(SpoolError, match="there is no spool"), SpoolReader(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_an_unreadable_spool_is_one_clear_error(tmp_path: Path) -> None:
    """A damaged database is an error of ours, and nothing of it changes."""
    (tmp_path / "spool.db").write_bytes(b"x" * 5000)
    with pytest.raises(SpoolError, match="cannot be read"), SpoolReader(tmp_path):
        pass
    assert (tmp_path / "spool.db").read_bytes() == b"x" * 5000
