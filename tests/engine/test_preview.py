"""Previews of replays: what would come of a letter, without a trace of it."""

from __future__ import annotations

from pathlib import Path

from mcp_ingest.component import StageSettings
from mcp_ingest.context import Context
from mcp_ingest.engine.pipeline import Pipeline
from mcp_ingest.engine.preview import Preview, Previews
from mcp_ingest.event import Batch
from mcp_ingest.verdict import Malformed
from tests.engine.parts import Scripted, delivering, spool_in, until
from tests.engine.replays import CARD, Bench, Checked


async def test_a_preview_shows_what_would_come_of_a_letter(tmp_path: Path) -> None:
    """Before and after for each fate, masked, with the destinations; nothing changes by it."""
    out = Scripted(lambda request: Malformed("no"))
    async with spool_in(tmp_path) as spool:
        bench = Bench(spool, {"out": out})
        await bench.take({"bad": 1}, {"bad": 2, "noise": 0}, {"bad": 3, "off": 1})
        await bench.take({"n": 1}, tag="stranger")
        await bench.take({"n": 5}, start=50)
        async with delivering(spool, out):
            await until(lambda: spool.usage().dead_letters == 5)

        def mended(batch: Batch) -> Batch:
            for record in batch.records:
                if record.get("bad") == 1:
                    record["message"] = f"card {CARD}"
                    record["bad"] = 0
                if record.get("off"):
                    record["noise"] = 1
            return Checked.apply(stage, batch)

        stage = Checked(StageSettings(), Context("checked"))
        stage.apply = mended  # type: ignore[method-assign]
        fresh = Pipeline("mcp", [stage], ["out"])
        previews = Previews(bench.replay, {"out": out}, lambda tag: fresh if tag.startswith("mcp") else None)
        before = spool.ledger()
        found: dict[int, Preview] = {
            letter.number: previews.preview(letter, through_pipeline=False)
            for letter in await spool.dead_letters.page(10)
        }
        assert found[1].outcome == "accepted"
        assert found[1].before == {"bad": 1}
        assert found[1].after == [{"bad": 0, "message": "card [REDACTED:card]", "seen": 1}]
        assert found[1].destinations == {"out": ["index"]}
        assert found[2].outcome == "dead letter"
        assert CARD not in found[2].why
        assert (found[3].outcome, found[3].after) == ("taken out", [])
        assert "filtered by noise" in found[3].why
        assert found[4].outcome == "dead letter"
        assert "no pipeline takes the tag 'stranger'" in found[4].why
        assert (found[5].outcome, found[5].destinations) == ("as it is", {"out": ["index"]})
        (letter,) = await spool.dead_letters.page(1)
        through = previews.preview(letter, through_pipeline=True)
        assert (through.outcome, through.after, through.before) == (
            "accepted",
            [{"n": 5, "seen": 2}],
            {"n": 5, "seen": 1},
        )
        letter.output = "gone"
        assert previews.preview(letter, through_pipeline=True).outcome == "kept"
        assert spool.ledger() == before
