"""What the spools remember of forward chunks."""

from __future__ import annotations

import struct
from pathlib import Path

from mcp_ingest.codecs.forward import encode_packed, pack_entries
from mcp_ingest.codecs.forward_entries import SLICE_EVENTS
from mcp_ingest.spool.model import Intake
from tests.chaos.senders import TAG, Chunk
from tests.chaos.taken import digest_of, taken
from tests.spool.making import opened

PEER = "10.0.0.9"
RANDOM, HASHED = "AAECAwQFBgcICQoLDA0ODw==", "000102030405060708090a0b0c0d0e0f"


def _chunk(name: str, events: int) -> Chunk:
    entries = pack_entries((number, {"n": number}) for number in range(events))
    return Chunk(name, encode_packed(TAG, entries, compressed="gzip", chunk=name.encode()), range(100, 100 + events))


async def test_only_what_the_spool_remembers_was_taken(tmp_path: Path) -> None:
    """The events of the chunks whose ids are there count, whoever made the id; those of other chunks do not."""
    chunks = [_chunk(RANDOM, 7), _chunk(HASHED, 30), _chunk(HASHED.upper(), 500)]
    async with opened(tmp_path) as spool:
        await spool.commit(Intake(digests=[digest_of(each, PEER) for each in chunks[:2]]))
    assert taken(tmp_path, chunks, PEER) == 37
    assert taken(tmp_path, chunks, "10.0.0.8") == 7, "a hash of the payload is another chunk from another sender"


async def test_a_chunk_counts_as_far_as_it_got(tmp_path: Path) -> None:
    """Of one that broke off after a slice the events of that slice and those before it count; taken whole, all."""
    chunk = _chunk(RANDOM, 2 * SLICE_EVENTS + 5)
    key = f"chunk/{digest_of(chunk, PEER).hex()}"
    for start, events in ((0, SLICE_EVENTS), (SLICE_EVENTS, 2 * SLICE_EVENTS)):
        async with opened(tmp_path) as spool:
            await spool.commit(Intake(positions={key: struct.pack(">Q", start)}))
        assert taken(tmp_path, [chunk], PEER) == events
    async with opened(tmp_path) as spool:
        await spool.commit(Intake(positions={key: None}, digests=[digest_of(chunk, PEER)]))
    assert taken(tmp_path, [chunk], PEER) == 2 * SLICE_EVENTS + 5
