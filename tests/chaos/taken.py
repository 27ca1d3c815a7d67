"""What each worker took of the forward chunks, by the chunk ids that its spool remembers.

A chunk that is sent again to another worker is taken anew. So what may be `accepted` is not what was sent, but what the
spools remember to have taken, chunk by chunk and slice by slice: exactly that, and no spool takes anything twice.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterable
from pathlib import Path

from mcp_ingest.codecs.forward import Decoder
from mcp_ingest.codecs.forward_entries import decode_entries
from mcp_ingest.event import hashed_prefix
from mcp_ingest.inputs.forward.batches import name_parts
from mcp_ingest.spool import SpoolReader
from tests.chaos.senders import TAG, Chunk

_SLICE = "chunk/"  # what the key of a chunk's position begins with, while not all of its slices are taken


def taken(folder: Path, chunks: Iterable[Chunk], peer: str) -> int:
    """How many events of these chunks, which came from the address `peer`, a stopped daemon's spool has taken."""
    by_digest = {digest_of(chunk, peer): chunk for chunk in chunks}
    with SpoolReader(folder) as spool:
        whole = spool.seen(by_digest)
        parts = {bytes.fromhex(key.removeprefix(_SLICE)): each for key, each in spool.positions(_SLICE).items()}
    count = sum(len(by_digest[digest].numbers) for digest in whole)
    for digest, position in parts.items():
        if digest not in whole:
            count += _through(by_digest[digest], struct.unpack(">Q", position)[0])
    return count


def digest_of(chunk: Chunk, peer: str) -> bytes:
    """How a spool remembers the chunk."""
    return base64.urlsafe_b64decode(hashed_prefix(*name_parts(chunk.id.encode(), TAG, peer))) + b"\0"


def _through(chunk: Chunk, start: int) -> int:
    """How many events it has up to the end of the slice that begins with event `start`."""
    decoder = Decoder()
    decoder.feed(chunk.frame)
    (frame,) = decoder
    return next(each.start + each.count for each in decode_entries(frame) if each.start == start)
