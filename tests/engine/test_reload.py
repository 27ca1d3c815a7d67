"""Reloads: one at a time, all or nothing, and what is said of them."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from mcp_ingest.config.changes import Changes, Difference
from mcp_ingest.config.model import Configuration
from mcp_ingest.context import Context
from mcp_ingest.engine.change import Change
from mcp_ingest.engine.reload import summary
from mcp_ingest.errors import ConfigError, IngestError
from mcp_ingest.metrics import CONFIG_RELOAD_SUCCESS, CONFIG_RELOAD_TIME
from mcp_ingest.outputs.blackhole import Blackhole
from tests.engine.live import Live, living, send
from tests.engine.parts import until


def _value(live: Live, name: str) -> float:
    found = live.daemon.metrics.registry.get_sample_value(name)
    assert found is not None
    return found


async def test_a_mistake_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each is told as `check` tells it, with its place; the metric is 0 until a configuration is taken again."""
    async with living(tmp_path) as live:
        before = _value(live, CONFIG_RELOAD_TIME.name)
        assert _value(live, CONFIG_RELOAD_SUCCESS.name) == 1
        good = dict(live.sections)
        with pytest.raises(ConfigError) as caught:
            await live.reload(inputs={"forward": {"prot": 1}}, outputs={"stdot": {}})
        assert [problem.partition("config.yaml:")[2] for problem in caught.value.problems] == [
            "3:5: `prot` is no setting — did you mean `port`?",
            "10:3: there is no output of the type `stdot` — did you mean `stdout`?",
        ]
        assert all(problem in caplog.text for problem in caught.value.problems)
        live.path.write_text("inputs: [")
        with pytest.raises(ConfigError, match="not YAML"):
            await live.daemon.reloader.reload()
        assert _value(live, CONFIG_RELOAD_SUCCESS.name) == 0
        assert _value(live, CONFIG_RELOAD_TIME.name) == before
        assert "not YAML" in live.daemon.status()["reload_failed"]
        live.write(**good)
        with live.sender() as sender:
            await send(sender, "one")
        await until(lambda: live.delivered() == 1)
        assert (await live.reload()).changes.nothing
        assert _value(live, CONFIG_RELOAD_SUCCESS.name) == 1
        assert _value(live, CONFIG_RELOAD_TIME.name) > before
        assert live.daemon.status()["reload_failed"] is None


async def test_an_output_class_that_raises_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is wrong with one part, all others stay as they were."""

    def broken(self: Blackhole, config: Any, context: Context) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(Blackhole, "__init__", broken)
    async with living(tmp_path) as live:
        with live.sender(attempts=1) as sender:
            await send(sender, "one")
            with pytest.raises(IngestError, match="`hole` cannot be built: RuntimeError: no"):
                await live.reload(outputs={"archive": live.file("new"), "hole": {"type": "blackhole"}})
            await send(sender, "two")
        await until(lambda: live.delivered() == 2)
        live.assert_closed()
    assert len(live.lines("all")) == 2


async def test_what_cannot_be_changed_is_refused(tmp_path: Path) -> None:
    """The spool's folder stays what it was, and with it all else."""
    async with living(tmp_path) as live:
        with pytest.raises(ConfigError, match=r"spool\.directory: a reload cannot change it from .*spool to .*other"):
            await live.reload(spool={"directory": str(tmp_path / "other")}, outputs={"hole": {"type": "blackhole"}})
        assert list(live.daemon.graph.outputs) == ["archive"]


async def test_what_can_be_changed_beside_the_graph(tmp_path: Path) -> None:
    """The spool's limit and the log's level."""
    async with living(tmp_path) as live:
        taken = await live.reload(spool={**live.sections["spool"], "max_bytes": "5MiB"}, log={"level": "error"})
        assert taken.changes.settings == ("spool.max_bytes", "log.level")
        assert live.daemon.status()["spool"]["max_bytes"] == 5 * 2**20
        assert live.daemon.log.level == logging.ERROR
        await live.reload(log={"level": "info"})


async def test_warnings_come_with_it(tmp_path: Path) -> None:
    """What `check` warns of is in the answer."""
    async with living(tmp_path) as live:
        taken = await live.reload(pipelines={"p": {"match": "**", "stages": ["normalize"]}})
        assert "has no `redact`" in taken.warnings[0]
        assert taken.as_json()["pipelines"]["changed"] == ("p",)


async def test_who_asks_meanwhile_gets_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One at a time: those who wait share one that begins after they asked, and one who goes away stops nothing."""
    prepare, begun, go_on = Change.prepare, asyncio.Event(), asyncio.Event()
    count = 0

    async def slow(self: Change) -> None:
        nonlocal count
        count += 1
        begun.set()
        await go_on.wait()
        await prepare(self)

    async with living(tmp_path) as live, asyncio.TaskGroup() as group:
        monkeypatch.setattr(Change, "prepare", slow)
        first = group.create_task(live.reload(outputs={"one": {"type": "blackhole"}}))
        await begun.wait()
        others = [group.create_task(live.reload(outputs={"two": {"type": "blackhole"}})) for _ in range(3)]
        await asyncio.sleep(0.05)
        first.cancel()
        go_on.set()
        await asyncio.wait(others)
        assert [task.result().changes.outputs.added for task in others] == [("two",)] * 3
    assert count == 2


@pytest.mark.parametrize("when", ["prepare", "commit"])
async def test_a_stop_during_a_reload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """What is only prepared is given up, what is being taken is taken; either way the daemon ends well."""
    real, begun = getattr(Change, when), asyncio.Event()

    async def slow(self: Change) -> None:
        begun.set()
        await asyncio.sleep(0.2 if when == "commit" else 3600)
        await real(self)

    monkeypatch.setattr(Change, when, slow)
    async with asyncio.TaskGroup() as group:
        async with living(tmp_path) as live:
            with live.sender() as sender:
                await send(sender, "one")
            asked = group.create_task(_answer(live))
            await begun.wait()
        said = await asked
    assert said == ("the daemon stops" if when == "prepare" else "taken")
    assert list(live.daemon.config.outputs) == (["archive"] if when == "prepare" else ["new"])


async def _answer(live: Live) -> str:
    try:
        await live.reload(outputs={"new": {"type": "blackhole"}})
    except IngestError as error:
        return str(error)
    return "taken"


async def test_a_reload_that_stops_half_way_stops_the_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of a graph is no graph: the next start makes it whole, and nothing is lost."""

    async def broken(self: Change) -> None:
        raise RuntimeError("a fault")

    async def lived() -> None:
        async with living(tmp_path) as live:
            monkeypatch.setattr(Change, "commit", broken)
            with pytest.raises(IngestError, match="a fault"):
                await live.reload(outputs={"new": {"type": "blackhole"}})

    with pytest.raises(ExceptionGroup) as caught:
        await lived()
    assert "stopped half way" in str(caught.value.exceptions[0])


class _Site:
    """A neighbour that notes what it is told, and refuses a port."""

    def __init__(self) -> None:
        self.told: list[str] = []

    async def prepare(self, config: Configuration) -> None:
        if config.http.port == 1:
            raise IngestError("port 1 is not for us")
        self.told.append(f"prepare {config.http.port}")

    async def settle(self, *, taken: bool) -> None:
        self.told.append("taken" if taken else "given up")


async def test_a_neighbour_has_its_say(tmp_path: Path) -> None:
    """What refuses stops the reload; what was prepared hears how it went."""
    async with living(tmp_path) as live:
        site = _Site()
        live.daemon.reloader.neighbours.append(site)
        with pytest.raises(IngestError, match="port 1"):
            await live.reload(http={"port": 1})
        with pytest.raises(ConfigError):
            await live.reload(http={"port": 2}, spool={"directory": "elsewhere"})
        await live.reload(http={"port": 3}, spool={"directory": str(tmp_path / "spool"), "ballast_bytes": "64KiB"})
        assert site.told == ["prepare 2", "given up", "prepare 3", "taken"]


def test_what_changed_in_a_line() -> None:
    """By kind, and nothing where nothing is different."""
    same = Difference((), (), (), ("a",))
    changes = Changes(Difference(("x", "y"), (), ("z",), ()), same, same, ("http.port",))
    assert summary(changes) == "inputs added: x, y; inputs removed: z; settings changed: http.port"
    assert summary(Changes(same, same, same)) == "nothing changed"
