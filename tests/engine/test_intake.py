"""What emits become: chunks, letters, counters and progress in a real spool."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pytest

from mcp_ingest.codecs.bulk import entry_ids, entry_lines
from mcp_ingest.component import Output
from mcp_ingest.context import Context, SystemClock
from mcp_ingest.engine.intake import IntakeMaker, Route, chunks_of
from mcp_ingest.engine.pipeline import Pipeline
from mcp_ingest.engine.status import sums
from mcp_ingest.errors import SpoolError, StreamBrokenError
from mcp_ingest.event import Batch, ChunkSlice, Progress, Rejected, Stream, Term
from mcp_ingest.outputs.blackhole import Blackhole
from mcp_ingest.spool import Spool
from mcp_ingest.spool.model import HIGH, NORMAL, Intake, OutputKey
from mcp_ingest.stages.redact import Redact
from tests.engine.parts import Scripted, Unspeakable, batch, ingesting, spool_in


async def _events(spool: Spool) -> list[str]:
    return [event_id for chunk in await spool.fresh("out", 0, 2**30) for event_id in chunk.ids]


def _assert_closed(spool: Spool) -> None:
    rows = sums(spool.ledger(), {"out": spool.held("out").events}, spool.usage().dead_letters)
    assert all(row["closed"] for row in rows), rows


async def test_emit_returns_when_it_is_durable(tmp_path: Path) -> None:
    """Events, positions and counters of an emit are there after it returned, with the ids of their source."""
    async with spool_in(tmp_path) as spool, ingesting(spool) as ingest:
        emit = ingest.emit_for("in")
        await emit(batch({"a": 1}, {"noise": 1}, {"a": 2}), Progress(positions={"tail/x": b"7"}))
        assert await _events(spool) == ["P" * 20 + "AAAAAAAA", "P" * 20 + "AAAAAAAC"]
        assert spool.positions("tail/") == {"tail/x": b"7"}
        assert spool.held("out").events == 2
        _assert_closed(spool)


async def test_a_batch_of_which_nothing_is_left_commits_its_progress(tmp_path: Path) -> None:
    """All filtered: the position moves, the counts are there, no chunk is made."""
    async with spool_in(tmp_path) as spool, ingesting(spool) as ingest:
        await ingest.emit_for("in")(batch({"noise": 1}), Progress(positions={"k": b"1"}))
        assert spool.positions("k") == {"k": b"1"}
        assert spool.usage().chunks == 0
        _assert_closed(spool)


async def test_waiting_emits_share_turns(tmp_path: Path) -> None:
    """Many small emits at once become few chunks, in order."""
    async with spool_in(tmp_path) as spool, ingesting(spool) as ingest:
        emit = ingest.emit_for("in")
        await asyncio.gather(*(emit(batch({"n": n}, start=n)) for n in range(500)))
        assert len(await _events(spool)) == 500
        assert spool.usage().chunks <= 20
        _assert_closed(spool)


async def test_tags_choose_the_pipeline(tmp_path: Path) -> None:
    """A mixed batch is split; what no pipeline takes is a masked dead letter called unmatched."""
    async with spool_in(tmp_path) as spool, ingesting(spool) as ingest:
        mixed = batch({"a": 1}, {"b": 1}, {"password": "hunter22", "n": 3})
        mixed.tags = ["mcp", "other.x", "stranger"]
        await ingest.emit_for("in")(mixed)
        chunks = await spool.fresh("out", 0, 2**30)
        assert sorted((chunk.pipeline, [*chunk.tags]) for chunk in chunks) == [("mcp", ["mcp"]), ("other", ["other.x"])]
        (letter,) = await spool.dead_letters.page(10)
        assert letter.kind == "unmatched"
        assert "'stranger'" in letter.reason
        assert b"hunter22" not in letter.record
        _assert_closed(spool)


async def test_what_could_not_be_decoded_is_received_and_a_letter(tmp_path: Path) -> None:
    """An event that the input could not decode is accounted for and kept as a dead letter."""
    async with spool_in(tmp_path) as spool, ingesting(spool) as ingest:
        made = batch({"a": 1})
        made.reject(Rejected("mcp", 0, b"\xff{", 9, made.origins[0], "not a map", why="invalid"))
        await ingest.emit_for("in")(made)
        (letter,) = await spool.dead_letters.page(10)
        assert (letter.kind, letter.input) == ("invalid", "in")
        _assert_closed(spool)


async def test_the_tag_as_it_came_chooses_the_pipeline(tmp_path: Path) -> None:
    """Though it is masked from then on, also of what no pipeline takes and of what could not be decoded."""
    card = "4111111111111111"
    async with spool_in(tmp_path) as spool:
        redact = Pipeline("p", [Redact(Redact.Config(), Context("redact"))], ["out"])
        maker = IntakeMaker([Route(lambda tag: card in tag, redact)], {"out": Scripted()}, spool, SystemClock())
        mixed = batch({"a": 1}, {"b": 1})
        mixed.tags = [f"mcp.{card}", "password=hunter22"]
        mixed.reject(Rejected(f"mcp.{card}", 0, b"\xff{", 9, mixed.origins[0], "not a map", why="invalid"))
        made = maker.make([("in", mixed, Progress())]).intake
        assert [chunk.tags for chunk in made.chunks] == [["mcp.[REDACTED:card]"]]
        assert sorted((letter.kind, letter.pipeline, letter.tag) for letter in made.letters) == [
            ("invalid", "p", "mcp.[REDACTED:card]"),
            ("unmatched", "unmatched", "password=[REDACTED:secret]"),
        ]
        assert "hunter22" not in "".join(letter.reason for letter in made.letters)


async def test_a_chunk_that_comes_again_is_deduplicated(tmp_path: Path) -> None:
    """A forward chunk is taken once: in flight, after its commit, and after a restart."""
    digest = b"d" * 16
    async with spool_in(tmp_path) as spool, ingesting(spool) as ingest:
        emit = ingest.emit_for("in")
        progress = [Progress(chunks=[digest]) for _ in range(3)]
        await asyncio.gather(*(emit(batch({"a": 1}, {"a": 2}), each) for each in progress))
        assert len(await _events(spool)) == 2
    async with spool_in(tmp_path) as spool, ingesting(spool) as ingest:
        await ingest.emit_for("in")(batch({"a": 1}, {"a": 2}), Progress(chunks=[digest]))
        assert len(await _events(spool)) == 2
        deduplicated = sum(count for key, count in spool.ledger().items() if key.term is Term.DEDUPLICATED)
        assert deduplicated == 6
        _assert_closed(spool)


async def test_slices_of_a_chunk_record_how_far_it_got(tmp_path: Path) -> None:
    """After a crash between slices the resend adds only what was not taken."""
    digest = b"e" * 16

    def slices() -> list[tuple[Batch, Progress]]:
        parts = [(0, False), (2, False), (4, True)]
        return [
            (batch({"n": s}, {"n": s + 1}, start=s), Progress(chunks=[ChunkSlice(digest, s, last)]))
            for s, last in parts
        ]

    async with spool_in(tmp_path) as spool, ingesting(spool) as ingest:
        for part, progress in slices()[:2]:
            await ingest.emit_for("in")(part, progress)
    async with spool_in(tmp_path) as spool, ingesting(spool) as ingest:
        for part, progress in slices():
            await ingest.emit_for("in")(part, progress)
        events = await _events(spool)
        assert len(events) == len(set(events)) == 6
        assert spool.positions("chunk/") == {}
        assert spool.seen([digest])
        _assert_closed(spool)


async def test_after_a_failed_commit_the_stream_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The failed emit raises, later ones of that stream too; another stream goes on, and nothing was counted."""
    async with spool_in(tmp_path) as spool, ingesting(spool) as ingest:
        emit, stream = ingest.emit_for("in"), Stream()
        real = spool.submit

        def failing(intake: Intake) -> asyncio.Future[list[int]]:
            monkeypatch.setattr(spool, "submit", real)
            failed: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
            failed.set_exception(SpoolError("disk full"))
            return failed

        monkeypatch.setattr(spool, "submit", failing)
        with pytest.raises(SpoolError, match="disk full"):
            await emit(batch({"n": 1}), Progress(stream))
        with pytest.raises(StreamBrokenError):
            await emit(batch({"n": 2}), Progress(stream))
        await emit(batch({"n": 1}), Progress(Stream()))
        assert len(await _events(spool)) == 1
        _assert_closed(spool)


async def test_errors_go_to_chunks_of_high_priority(tmp_path: Path) -> None:
    """ERROR and CRITICAL stand in chunks of their own."""
    async with spool_in(tmp_path) as spool, ingesting(spool) as ingest:
        await ingest.emit_for("in")(batch({"log_level": "ERROR"}, {"log_level": "INFO"}, {"log_level": "CRITICAL"}))
        chunks = await spool.fresh("out", 0, 2**30)
        assert [(chunk.priority, len(chunk.ids)) for chunk in chunks] == [(0, 1), (1, 2)]


class _ByTag(Scripted):
    def address(self, batch: Batch) -> list[str]:
        return [f"to-{tag}" for tag in batch.tags]


@pytest.mark.parametrize(
    ("levels", "parts"),
    [
        (["INFO", "ERROR", "bad", "INFO", "CRITICAL"], [(NORMAL, [0, 3]), (HIGH, [1, 4])]),
        (["INFO", "bad"], [(NORMAL, [0])]),
        (["bad", "ERROR", "ERROR"], [(HIGH, [1, 2])]),
        (["bad"], []),
        ([], []),
    ],
)
def test_what_belongs_to_an_event_stays_beside_it(levels: list[str], parts: list[tuple[int, list[int]]]) -> None:
    """Id, line, tag and destination, in a chunk of its priority; what no JSON can hold is a dead letter."""
    events = batch(*({"log_level": level, "n": n} for n, level in enumerate(levels)))
    events.tags = [f"t{n}" for n in range(len(levels))]
    for record in events.records:
        if record["log_level"] == "bad":
            record["n"] = Unspeakable()
    chunks = chunks_of("p", events, {"out": _ByTag()})
    assert [(chunk.priority, entry_ids(chunk.entries), chunk.tags, chunk.destinations["out"]) for chunk in chunks] == [
        (
            priority,
            ["P" * 20 + f"AAAAAAA{'ABCDE'[n]}" for n in places],
            [f"t{n}" for n in places],
            [f"to-t{n}" for n in places],
        )
        for priority, places in parts
    ]
    lines = [orjson.loads(line) for chunk in chunks for line in entry_lines(chunk.entries)]
    assert [(line["tag"], line["n"]) for line in lines] == [(f"t{n}", n) for _, places in parts for n in places]
    assert [each.tag for each in events.outcome.rejected] == [
        f"t{n}" for n, level in enumerate(levels) if level == "bad"
    ]


async def test_a_level_that_is_no_text_harms_nobody(tmp_path: Path) -> None:
    """A record whose `log_level` is a list or a map is taken like any other, and so are its neighbours."""
    async with spool_in(tmp_path) as spool, ingesting(spool) as ingest:
        await ingest.emit_for("in")(batch({"log_level": ["ERROR"]}, {"log_level": {}}, {"n": 1}))
        assert len(await _events(spool)) == 3
        _assert_closed(spool)


async def test_what_a_batch_counted_survives_its_routing(tmp_path: Path) -> None:
    """Effects that an input notes are applied once, also when the batch goes to several pipelines or to none."""
    async with spool_in(tmp_path) as spool, ingesting(spool) as ingest:
        counted: list[str] = []
        mixed, empty = batch({"a": 1}, {"b": 1}), batch()
        mixed.tags = ["mcp", "other.x"]
        mixed.outcome.effects.append(lambda: counted.append("mixed"))
        empty.outcome.effects.append(lambda: counted.append("empty"))
        await ingest.emit_for("in")(mixed)
        await ingest.emit_for("in")(empty)
        assert counted == ["mixed", "empty"]


async def test_a_tag_that_is_no_utf8_harms_nobody(tmp_path: Path) -> None:
    """A tag with a lone surrogate (a file's name that is not UTF-8) is written with U+FFFD; neighbours go on."""
    async with spool_in(tmp_path) as spool, ingesting(spool) as ingest:
        made = batch({"n": 1}, {"n": 2}, {"n": 3})
        made.tags = ["mcp.\udcff", "mcp.a", "stranger.\udcff"]
        made.reject(Rejected("mcp.\udcff", 0, b"\xff{", 9, made.origins[0], "no map: \udcff", why="invalid"))
        await ingest.emit_for("in")(made)
        (chunk,) = await spool.fresh("out", 0, 2**30)
        assert chunk.tags == ["mcp.\ufffd", "mcp.a"]
        assert {letter.tag for letter in await spool.dead_letters.page(10)} == {"mcp.\ufffd", "stranger.\ufffd"}
        _assert_closed(spool)


async def test_an_output_that_holds_nothing_gets_its_events_with_the_commit(tmp_path: Path) -> None:
    """Its events are assigned and delivered at once; no chunk names it, and none is made for it alone."""
    outputs: dict[str, Output] = {"out": Scripted(), "nothing": Blackhole(Blackhole.Config(), Context())}
    routes = [
        Route(lambda tag: tag == "both", Pipeline("both", [], ["out", "nothing"])),
        Route(lambda tag: tag == "alone", Pipeline("alone", [], ["nothing"])),
    ]
    async with spool_in(tmp_path, {"out": "scripted", "nothing": "blackhole"}) as spool:
        maker = IntakeMaker(routes, outputs, spool, SystemClock())
        for tag in ("both", "alone"):
            made = maker.make([("in", batch({"a": 1}, {"log_level": "ERROR"}, tag=tag), Progress())])
            await spool.commit(made.intake)
        chunks = await spool.fresh("out", 0, 2**30)
        assert [[*chunk.destinations] for chunk in chunks] == [["out"], ["out"]]
        assert spool.usage().chunks == 2
        assert spool.held("nothing").events == 0
        assert spool.ledger()[OutputKey("nothing", Term.DELIVERED)] == 4
        held = {name: spool.held(name).events for name in outputs}
        assert all(row["closed"] for row in sums(spool.ledger(), held, 0))
