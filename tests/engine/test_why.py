"""`why`: what is known of an event, whatever of its names is given."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from mcp_ingest.context import Context
from mcp_ingest.engine import why as module
from mcp_ingest.engine.why import Known, id_parts, why
from mcp_ingest.event import hashed_prefix, id_suffixes
from mcp_ingest.inputs.forward import Forward
from mcp_ingest.spool import Spool
from mcp_ingest.spool.model import NORMAL, DeadLetter, Intake, NewChunk
from tests.spool.making import opened

RANDOM = base64.b64encode(b"0123456789abcdef").decode()
INPUTS = {"forward": Forward(Forward.Config(), Context("forward"))}


def _intake(prefix: str, count: int = 2, trace: str = "t") -> Intake:
    """A forward chunk with a dead letter, as its input and the engine make it."""
    ids = [prefix + suffix for suffix in id_suffixes(range(count + 1))]
    line = b'{"trace_id":"%s"}' % trace.encode()
    chunk = NewChunk.of("p", NORMAL, ids[:-1], ["mcp"] * count, [line] * count, {"a": ["i"] * count})
    letter = DeadLetter(1, "why", "stage", "mcp", line, ids[-1], 0)
    return Intake([chunk], digests=[base64.urlsafe_b64decode(prefix) + b"\0"], letters=[letter])


async def _why(spool: Spool, text: str, tag: str | None = None, peer: str | None = None) -> Known:
    return await why(text, spool, INPUTS, tag, peer)


async def test_an_id_a_trace_and_a_chunk_lead_to_the_same_event(tmp_path: Path) -> None:
    """Whatever the name, the event's place, its outputs, its dead letters and its chunk's receipt are told."""
    prefix = hashed_prefix(RANDOM.encode())
    async with opened(tmp_path, {"a": "x"}) as spool:
        await spool.commit(_intake(prefix))
        by_id = await _why(spool, prefix + "AAAAAAAB")
        by_trace = await _why(spool, "t")
        by_chunk = await _why(spool, RANDOM)
    assert [event.id for event in by_id.held] == [prefix + "AAAAAAAB"]
    assert (by_id.letters, by_id.taken) == ([], [prefix])
    for known in (by_trace, by_chunk):
        assert [event.id[20:] for event in known.held] == ["AAAAAAAA", "AAAAAAAB"]
        assert [letter.event_id for letter in known.letters] == [prefix + "AAAAAAAC"]
        assert (known.searched, known.whole) == (1, True)
    assert (by_chunk.prefixes, by_chunk.taken) == ([prefix], [prefix])


async def test_a_chunk_id_that_is_not_random_needs_tag_and_sender(tmp_path: Path) -> None:
    """Fluent Bit's ids are the same for equal payloads of two nodes, so that alone they name nothing."""
    prefix = hashed_prefix(b"12ab", b"mcp", b"10.0.0.1")
    async with opened(tmp_path, {"a": "x"}) as spool:
        await spool.commit(_intake(prefix))
        alone, whole = await _why(spool, "12ab"), await _why(spool, "12ab", "mcp", "10.0.0.1")
    assert (alone.held, alone.taken) == ([], [])
    assert "tag and sender's address" in alone.notes[0]
    assert (len(whole.held), whole.taken, whole.notes) == (2, [prefix], [])


async def test_a_large_spool_is_not_looked_through_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After some seconds it ends with what was found, and says so; there is a bound for what it tells, too."""
    async with opened(tmp_path, {"a": "x"}) as spool:
        for number in range(6):
            await spool.commit(_intake(hashed_prefix(b"%d" % number), 60))
        many = await _why(spool, "t")
        monkeypatch.setattr(module, "SECONDS", 0.0)
        cut = await _why(spool, "t")
    assert (len(many.held), many.searched, many.whole) == (module.MOST, 4, False)
    assert (cut.held, cut.searched, cut.whole) == ([], 0, False)


@pytest.mark.parametrize("text", ["", "short", "x" * 29, "é" * 28, "+" * 28])
def test_other_texts_are_no_ids(text: str) -> None:
    """An `_id` of ours has 28 characters of base64url."""
    assert id_parts(text) is None
    assert id_parts("AAAAAAAAAAAAAAAAAAAAAAAAAAAB") == (bytes(15), 1)
