"""The small file of sums: what it says after commits, crashes, damage."""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

from mcp_ingest.event import Term
from mcp_ingest.spool.model import InputKey, Ledger, LetterKey, OutputKey
from mcp_ingest.spool.sums import SLOT, SUMS, Marked, Sum, Sums, SumsFile, counter_of, read_sums, sum_of, summed

ONE: Ledger = Counter({InputKey("forward", "mcp", Term.RECEIVED): 2, OutputKey("es", Term.DELIVERED, "late"): 1})


def new(directory: Path, **counts: int) -> SumsFile:
    return SumsFile(directory, Sums(b"a" * 16, b"b" * 16, 5, 9, 77, summed(ONE), {3: Marked("es", "elasticsearch", 4)}))


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """Commits, numbers, marks and sums without their reasons are those of the last commit."""
    file = new(tmp_path)
    file.write(ONE, 6, 10, {3: 8})
    file.write(Counter({LetterKey(Term.EXPIRED, "age"): 1}), 7, 10, {})
    file.close()
    sums = read_sums(tmp_path)
    assert sums is not None
    assert (sums.first, sums.uuid, sums.commits, sums.last, sums.inode) == (b"a" * 16, b"b" * 16, 7, 10, 77)
    assert sums.outputs == {3: Marked("es", "elasticsearch", 8)}
    assert sums.counts == Counter({
        Sum("input", "forward", "mcp", Term.RECEIVED): 4,
        Sum("output", "es", "", Term.DELIVERED): 2,
        Sum("letters", "", "", Term.EXPIRED): 1,
    })  # fmt: skip


def test_a_torn_write_leaves_the_commit_before(tmp_path: Path) -> None:
    """Whatever one write did to its slot, the other slot is whole and one commit older."""
    file = new(tmp_path)
    file.write(ONE, 6, 10, {})
    file.close()
    path = tmp_path / SUMS
    data = bytearray(path.read_bytes())
    data[SLOT + 40] ^= 1
    path.write_bytes(data)
    sums = read_sums(tmp_path)
    assert sums is not None
    assert sums.commits == 5


def test_damage_is_noticed(tmp_path: Path) -> None:
    """With random bytes over it the file says something true, or nothing."""
    generator = random.Random(1)
    for _ in range(200):
        file = new(tmp_path)
        file.write(ONE, 6, 10, {})
        file.close()
        path = tmp_path / SUMS
        data = bytearray(path.read_bytes())
        for start in (generator.randrange(400), SLOT + generator.randrange(400), 2 * SLOT + generator.randrange(200)):
            data[start : start + 40] = generator.randbytes(40)
        path.write_bytes(data)
        sums = read_sums(tmp_path)
        assert sums is None or sums.commits in (5, 6)


def test_there_need_be_no_file(tmp_path: Path) -> None:
    """A file that is not there, is empty or is something else says nothing."""
    assert read_sums(tmp_path) is None
    for content in (b"", b"x" * 100, bytes(3 * SLOT)):
        (tmp_path / SUMS).write_bytes(content)
        assert read_sums(tmp_path) is None


def test_a_deleted_file_is_made_again(tmp_path: Path) -> None:
    """Who writes it sees that it is gone, and can write it anew with all that it had."""
    file = new(tmp_path)
    file.write(ONE, 6, 10, {})
    assert file.is_there()
    os.unlink(tmp_path / SUMS)
    assert not file.is_there()
    file.create(78)
    assert file.is_there()
    sums = read_sums(tmp_path)
    assert sums is not None
    assert (sums.commits, sums.inode) == (6, 78)
    assert sums.counts[Sum("input", "forward", "mcp", Term.RECEIVED)] == 4
    file.close()


def test_a_disk_that_does_not_take_it(tmp_path: Path) -> None:
    """Without a folder nothing is written, and nothing fails; later it is."""
    file = new(tmp_path / "missing")
    file.write(ONE, 6, 10, {})
    assert not file.is_there()
    (tmp_path / "missing").mkdir()
    file.create(1)
    sums = read_sums(tmp_path / "missing")
    assert sums is not None
    assert sums.commits == 6
    file.close()


def test_more_sums_than_there_is_room_for(tmp_path: Path) -> None:
    """What has no place is not summed up; the others are."""
    file = new(tmp_path)
    for number in range(9000):
        file.write(Counter({InputKey(f"i{number}", "", Term.RECEIVED): 1}), 6 + number, 10, {})
    file.write(ONE, 10_000, 10, {})
    file.close()
    sums = read_sums(tmp_path)
    assert sums is not None
    assert sums.commits == 10_000
    assert sums.counts[Sum("input", "forward", "mcp", Term.RECEIVED)] == 4
    assert 8000 < len(sums.counts) < 8300


def test_counters_and_sums() -> None:
    """A counter belongs to the sum of its name and term, and a sum gives a counter of any reason."""
    for key in (*ONE, LetterKey(Term.LOST, "x")):
        assert sum_of(counter_of(sum_of(key), "other")) == sum_of(key)
