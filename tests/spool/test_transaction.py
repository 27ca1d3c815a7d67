"""Tests of what one transaction writes, on a connection of the test's own."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_ingest.spool import schema
from mcp_ingest.spool.model import Intake, Settlement
from mcp_ingest.spool.seen import BLOCK, KEEP_NS
from mcp_ingest.spool.transaction import Writer
from mcp_ingest.spool.truth import Truth, load, register
from tests.spool.making import OUTPUTS, chunk, intake


class Bench:
    def __init__(self, directory: Path) -> None:
        self.now = 10**18
        self.connection = schema.connect(directory)
        (self.uuid,) = schema.uuids(self.connection)
        self.open()

    def open(self) -> Truth:
        truth = load(self.connection, register(self.connection, OUTPUTS))
        self.writer = Writer(self.connection, self.uuid, truth, lambda: self.now)
        return truth

    def count(self, table: str) -> int:
        (count,) = self.connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        return int(count)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.connection.close()


def digests(first: int, count: int) -> list[bytes]:
    return [number.to_bytes(16, "little") for number in range(first, first + count)]


def commit(bench: Bench, made: Intake) -> None:
    bench.writer.write([bench.writer.prepare(made)])


def test_digests_are_packed_and_all_found_again(bench: Bench) -> None:
    """A full block becomes one row, and every digest is seen after a restart."""
    for number in range(3):
        commit(bench, Intake(digests=digests(number * 10, 10)))
    commit(bench, Intake(digests=digests(30, BLOCK - 30)))
    assert bench.count("seen") == 1
    commit(bench, Intake(digests=digests(BLOCK, 5)))
    assert bench.count("seen") == 2
    seen = bench.open().seen
    assert len(seen.among([*digests(0, BLOCK + 5)])) == BLOCK + 5
    assert len(seen) == BLOCK + 5


def test_what_came_before_a_restart_or_a_rollback_is_packed_with_the_rest(bench: Bench) -> None:
    """Loose digests are read again; those of a transaction that failed are no part of a block."""
    commit(bench, Intake(digests=digests(0, 10)))
    bench.open()
    bad = bench.writer.prepare(Intake(digests=digests(BLOCK, 9), positions={"a": object()}))  # type: ignore[dict-item]
    with pytest.raises(sqlite3.Error):
        bench.writer.write([bad])
    commit(bench, Intake(digests=digests(10, BLOCK - 10)))
    assert bench.count("seen") == 1
    seen = bench.open().seen
    assert (len(seen), len(seen.among(digests(0, BLOCK)))) == (BLOCK, BLOCK)


def test_old_digests_leave_the_database(bench: Bench) -> None:
    """When a block is packed, what is older than 72 hours goes."""
    commit(bench, Intake(digests=digests(0, BLOCK)))
    bench.now += KEEP_NS + 1
    commit(bench, Intake(digests=digests(BLOCK, BLOCK)))
    assert bench.count("seen") == 1


def test_a_failed_transaction_leaves_the_next_one_as_it_was(bench: Bench) -> None:
    """After a rollback neither rows nor marks nor what is in memory have moved."""
    commit(bench, intake(chunk(2)))
    bad = bench.writer.prepare(Intake(positions={"a": object()}))  # type: ignore[dict-item]
    with pytest.raises(sqlite3.Error):
        bench.writer.write([bench.writer.prepare(intake(chunk(2))), Settlement("elasticsearch", 1), bad])
    assert (bench.count("chunks"), bench.count("owed")) == (1, 1)
    changes = bench.writer.write([Settlement("elasticsearch", 1)])
    assert changes.gone == [1]
    assert bench.count("chunks") == 0


def test_what_is_loaded_is_what_the_changes_said(bench: Bench) -> None:
    """Applying a commit's changes to memory and reading the database anew come to the same."""
    truth = bench.open()
    for works in (
        [bench.writer.prepare(intake(chunk(2, ("elasticsearch", "archive")), file=b"1"))],
        [bench.writer.prepare(intake(chunk(5)))],
        [Settlement("elasticsearch", 1)],
    ):
        truth.apply(bench.writer.write(works))
    loaded = bench.open()
    assert loaded.outputs == truth.outputs
    assert (loaded.ledger, loaded.positions, loaded.chunks) == (truth.ledger, truth.positions, truth.chunks)
    assert (loaded.oldest, loaded.last) == (truth.oldest, truth.last)
