"""Tests of the digests in memory."""

from __future__ import annotations

import hashlib

from mcp_ingest.spool.seen import BLOCK, KEEP_NS, Seen, split


def digest(number: int) -> bytes:
    return hashlib.blake2b(str(number).encode(), digest_size=16).digest()


def test_what_was_added_is_seen_across_blocks() -> None:
    """A digest is found in the set, in a block and in a block read from the database, a stranger in none."""
    seen = Seen()
    packed = sorted(digest(number) for number in range(BLOCK))
    seen.add_block(b"".join(packed), 1)
    recent = [digest(number) for number in range(BLOCK, 2 * BLOCK)]
    seen.add(recent, 2)
    assert len(seen.among(recent)) == BLOCK
    seen.packed(b"".join(sorted(recent)), 2)
    seen.add([digest(2 * BLOCK)], 3)
    some = {digest(number) for number in range(0, 2 * BLOCK + 1, 97)}
    assert seen.among([*some, *(digest(-number) for number in range(1, 500))]) == some
    assert len(seen) == 2 * BLOCK + 1


def test_equal_halves_are_told_apart() -> None:
    """Digests that share their first eight bytes are different digests."""
    seen = Seen()
    seen.add_block(b"".join(bytes(15) + bytes([number]) for number in (1, 2, 4)), 1)
    assert seen.among([bytes(15) + b"\x02"])
    assert not seen.among([bytes(15) + b"\x03"])


def test_old_blocks_go() -> None:
    """A block whose newest digest is 72 hours old is forgotten."""
    seen = Seen()
    seen.add_block(b"".join(sorted(digest(number) for number in range(10))), 1)
    seen.add([digest(11)], KEEP_NS + 2)
    assert not seen.among([digest(1)])
    assert seen.among([digest(11)])


def test_the_number_of_digests_is_bounded() -> None:
    """However many come, about a million are remembered: the newest."""
    seen = Seen()
    for block in range(20):
        seen.add_block(digest(block), 1)
    assert len(seen) == 15
    assert seen.among([digest(19)])
    assert not seen.among([digest(0)])


def test_a_row_is_split_into_its_digests() -> None:
    """A row of the database holds digests one behind the other."""
    assert split(digest(1) + digest(2)) == [digest(1), digest(2)]


def test_what_outlives_a_group_is_found() -> None:
    """Blocks come and go over more than one field of bits: the newest fifteen are found, those before are not."""
    seen = Seen()
    for block in range(40):
        seen.add_block(b"".join(sorted(digest(1000 * block + number) for number in range(50))), block)
        newest = {digest(1000 * past + 7) for past in range(max(0, block - 14), block + 1)}
        assert seen.among([digest(1000 * past + 7) for past in range(block + 1)]) == newest
    assert len(seen) == 15 * 50
