"""A graph that takes another configuration: what stays, what comes, what goes, and that no event notices."""

from __future__ import annotations

import asyncio
import json
import socket
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mcp_ingest.component import Emit
from mcp_ingest.engine import change
from mcp_ingest.engine.change import Gate
from mcp_ingest.errors import IngestError, SpoolError
from mcp_ingest.event import Batch, Progress
from mcp_ingest.inputs.forward import Forward
from mcp_ingest.metrics import CONNECTIONS, OUTPUT_UP
from mcp_ingest.outputs.file import File
from mcp_ingest.verdict import Request, Verdicts
from tests.engine.live import Live, free_port, living, send
from tests.engine.parts import batch, until


def _messages(live: Live, *outputs: str) -> list[str]:
    return [json.loads(line)["message"] for output in outputs for line in live.lines(output)]


def _forward(port: int, **settings: Any) -> dict[str, Any]:
    return {"forward": {"type": "forward", "host": "127.0.0.1", "port": port, **settings}}


# --- inputs ------------------------------------------------------------------------------------------------


async def test_an_unchanged_input_keeps_its_connections(tmp_path: Path) -> None:
    """One connection goes on over changes of pipelines and outputs; from then on its events meet the new ones."""
    async with living(tmp_path) as live:
        with live.sender(attempts=1) as sender:
            await send(sender, "one")
            await until(lambda: live.delivered() == 1)
            await live.reload(outputs={"other": live.file("other")})
            await send(sender, "two")
            await until(lambda: live.delivered("other") == 1)
        live.assert_closed()
    assert (_messages(live, "all"), _messages(live, "other")) == (["one"], ["two"])


async def test_forward_takes_other_settings_over_open_connections(tmp_path: Path) -> None:
    """Where the address stays, the same connection has its next frames treated by the new settings."""
    async with living(tmp_path) as live:
        with live.sender(attempts=1) as sender:
            await send(sender, "one")
            taken = await live.reload(inputs=_forward(live.port, tag_prefix="edge", source_address_key="from"))
            assert taken.changes.inputs.changed == ("forward",)
            await send(sender, "two")
            await live.reload(inputs=_forward(live.port, max_frame_bytes=200))
            await send(sender, "three")
            with pytest.raises(IngestError, match="closed the connection"):
                await send(sender, "x" * 300)
        await until(lambda: live.delivered() == 3)
    lines = [json.loads(line) for line in live.lines("all")]
    assert [(line["tag"], line.get("from")) for line in lines] == [
        ("t", None), ("edge.t", "127.0.0.1"), ("t", None)
    ]  # fmt: skip


async def test_another_port_is_listened_on_and_the_old_one_drained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is under way on an old connection is acknowledged before it is closed; the old port refuses then."""
    waiting, go_on = asyncio.Event(), asyncio.Event()
    async with living(tmp_path) as live:
        old, new, submit = live.port, free_port(), live.daemon.spool.submit
        with live.sender(attempts=1) as sender:
            await send(sender, "one")

            def slow(intake: Any) -> asyncio.Future[list[int]]:
                waiting.set()
                monkeypatch.undo()
                return group.create_task(_later(intake))

            async def _later(intake: Any) -> list[int]:
                await go_on.wait()
                return await submit(intake)

            async with asyncio.TaskGroup() as group:
                monkeypatch.setattr(live.daemon.spool, "submit", slow)
                sending = group.create_task(send(sender, "two"))
                await waiting.wait()
                reloading = group.create_task(live.reload(inputs=_forward(new)))
                await until(lambda: _listens(new))
                assert not sending.done()
                go_on.set()
                await asyncio.gather(sending, reloading)
        with live.sender(port=new) as sender:
            await send(sender, "three")
        assert not _listens(old)
        await until(lambda: live.delivered() == 3)
        assert live.daemon.metrics.gauge(CONNECTIONS, input="forward")._value.get() <= 1
    assert _messages(live, "all") == ["one", "two", "three"]


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("how", ["host", "name"])
async def test_an_address_passes_from_an_old_input_to_a_new_one(tmp_path: Path, how: str) -> None:
    """Another host with the same port, or another name for the input: the port is free for a moment only."""
    async with living(tmp_path) as live:
        port = live.port
        with live.sender(attempts=1) as sender:
            await send(sender, "one")
        if how == "host":
            await live.reload(inputs={"forward": {"host": "0.0.0.0", "port": port}})
        else:
            await live.reload(inputs={"fluent": {"type": "forward", "host": "127.0.0.1", "port": port}})
        with live.sender(port=port, attempts=1) as sender:
            await send(sender, "two")
        await until(lambda: live.delivered() == 2)
        assert live.daemon.ready() is None
        live.assert_closed()
    assert _messages(live, "all") == ["one", "two"]


@pytest.mark.parametrize("beside", [False, True])
async def test_an_input_that_cannot_listen_changes_nothing(tmp_path: Path, beside: bool) -> None:
    """The old graph goes on, with its connections where they are not in question; the reason names the address."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        async with living(tmp_path) as live:
            first = dict(live.sections["inputs"])
            with live.sender(attempts=1 if beside else 3) as sender:
                await send(sender, "one")
                more = {"more": {"type": "forward", "host": "127.0.0.1", "port": port}}
                inputs = {**first, **more} if beside else more
                with pytest.raises(IngestError, match=f"{port}.*in use"):
                    await live.reload(inputs=inputs, outputs={"archive": {"type": "blackhole"}})
                live.write(inputs=first)
                await send(sender, "two")
            await until(lambda: live.delivered() == 2)
            assert live.daemon.ready() is None
            assert list(live.daemon.graph.inputs) == ["forward"]
    assert _messages(live, "all") == ["one", "two"]


async def test_an_input_that_never_listens_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while it is given up."""

    async def silent(self: Forward, emit: Emit) -> None:
        await asyncio.Event().wait()

    async with living(tmp_path) as live:
        monkeypatch.setattr(change, "START_SECONDS", 0.2)
        monkeypatch.setattr(Forward, "run", silent)
        inputs = {**live.sections["inputs"], "more": {"type": "forward", "host": "127.0.0.1", "port": 0}}
        with pytest.raises(IngestError, match=r"input more does not listen after 0\.2 s"):
            await live.reload(inputs=inputs)
        assert list(live.daemon.graph.inputs) == ["forward"]


async def test_an_input_that_keeps_positions_ends_before_the_next_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that neither goes on with other settings nor may overlap: never two of them read the same."""
    notes: list[str] = []

    async with living(tmp_path) as live:
        monkeypatch.setattr(Forward, "change_to", lambda self, config: None)
        monkeypatch.setattr(Forward, "overlaps", False)
        real = Forward.run

        async def noting(self: Forward, emit: Emit) -> None:
            notes.append(f"{self.config.tag} runs")
            try:
                await real(self, emit)
            finally:
                notes.append(f"{self.config.tag} ended")

        monkeypatch.setattr(Forward, "run", noting)
        await live.reload(inputs=_forward(live.port, tag="one"))
        await live.reload(inputs=_forward(live.port, tag="two"))
        assert live.daemon.ready() is None
    assert notes == ["one runs", "one ended", "two runs", "two ended"]


async def test_an_input_that_cannot_end_for_a_full_spool_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its events were never acknowledged: their senders bring them again, to the new one."""
    monkeypatch.setattr("mcp_ingest.engine.graph.GRACE", 0.2)
    async with living(tmp_path) as live:
        new = free_port()
        has_room, room = live.daemon.spool.has_room, live.daemon.spool.room
        monkeypatch.setattr(live.daemon.spool, "has_room", lambda: False)
        monkeypatch.setattr(live.daemon.spool, "room", asyncio.Event().wait)
        with live.sender(attempts=1) as sender:
            async with asyncio.TaskGroup() as group:
                sending = group.create_task(_refused(sender))
                await until(lambda: live.daemon.graph.ingest._waiting)
                await live.reload(inputs=_forward(new))
                await sending
        monkeypatch.setattr(live.daemon.spool, "has_room", has_room)
        monkeypatch.setattr(live.daemon.spool, "room", room)
        live.daemon.spool._space.set()
        live.daemon.graph.ingest._leaving.clear()
    assert _messages(live, "all") == []


async def _refused(sender: Any) -> None:
    with pytest.raises(IngestError, match="closed the connection"):
        await send(sender, "lost to nobody")


async def test_what_a_new_input_emits_waits_for_the_change() -> None:
    """Behind a gate; one that is never opened refuses, so that nothing of it is acknowledged."""
    passed: list[Batch] = []

    async def emit(batch: Batch, progress: Progress | None = None) -> None:
        passed.append(batch)

    gate, never = Gate(), Gate()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(gate.through(emit)(batch({"n": 1})))
        await asyncio.sleep(0.01)
        assert passed == []
        gate.open()
        await waiting
        await gate.through(emit)(batch({"n": 2}))
    assert len(passed) == 2
    never.refuse()
    with pytest.raises(SpoolError):
        await never.through(emit)(batch({"n": 3}))
    assert len(passed) == 2


# --- outputs -----------------------------------------------------------------------------------------------


async def test_a_changed_output_goes_on_where_the_old_one_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request under way ends and counts; the new one delivers the rest, where it was addressed to, each once."""
    real, begun, go_on = File.write, asyncio.Event(), asyncio.Event()

    async def slow(self: File, request: Request) -> Verdicts:
        begun.set()
        await go_on.wait()
        return await real(self, request)

    async with living(tmp_path) as live:
        monkeypatch.setattr(File, "write", slow)
        with live.sender() as sender:
            await send(sender, "one")
            await begun.wait()
            await send(sender, "two")
            async with asyncio.TaskGroup() as group:
                reloading = group.create_task(live.reload(outputs={"archive": live.file("new")}))
                await asyncio.sleep(0.3)
                assert not reloading.done()
                monkeypatch.setattr(File, "write", real)
                go_on.set()
            await send(sender, "three")
            await until(lambda: live.delivered() == 3)
        live.assert_closed()
    assert (_messages(live, "all"), _messages(live, "new")) == (["one", "two"], ["three"])


async def test_a_request_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload does not wait for ever for an output that does not answer: the new one sends it again."""
    monkeypatch.setattr("mcp_ingest.engine.graph.GRACE", 0.2)
    real, begun = File.write, asyncio.Event()

    async def hanging(self: File, request: Request) -> Verdicts:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with living(tmp_path) as live:
        monkeypatch.setattr(File, "write", hanging)
        with live.sender() as sender:
            await send(sender, "one")
            await begun.wait()
            monkeypatch.setattr(File, "write", real)
            await live.reload(outputs={"archive": live.file("new")})
            await until(lambda: live.delivered() == 1)
        live.assert_closed()
    assert _messages(live, "all") == ["one"]


_BLOCKED = {"type": "file", "path": "/proc/nowhere/x"}


def _blocked(directory: Path) -> dict[str, Any]:
    """An output whose folder cannot be made: until it is unlinked, a file stands in its place."""
    (directory / "out").touch()
    return {"type": "file", "path": str(directory / "out" / "old.ndjson")}


async def test_a_removed_output_s_backlog_stays_until_it_is_back(tmp_path: Path) -> None:
    """It is listed, the sums close, and the output gets it when it is there again, of the same name and type."""
    async with living(tmp_path, outputs={"old": _blocked(tmp_path)}) as live:
        with live.sender() as sender:
            await send(sender, "one", "two")
            await live.reload(outputs={"archive": {"type": "blackhole"}})
            assert live.daemon.status()["removed_outputs"]["old (file)"]["events"] == 2
            live.assert_closed()
            await send(sender, "three")
            await until(lambda: live.delivered() == 1)
            (tmp_path / "out").unlink()
            await live.reload(outputs={"old": live.file("old")})
            await until(lambda: live.delivered("old") == 2)
            live.assert_closed()
    assert _messages(live, "old") == ["one", "two"]


async def test_an_output_of_another_type_is_another(tmp_path: Path) -> None:
    """Under the same name: nothing that was addressed to a file goes to it, and back to the file it goes on."""
    async with living(tmp_path, outputs={"out": _BLOCKED}) as live:
        with live.sender() as sender:
            await send(sender, "one")
            await live.reload(outputs={"out": {"type": "store", "directory": str(tmp_path / "store")}})
            await send(sender, "two")
            await until(lambda: live.delivered("out") == 1)
            assert live.daemon.status()["removed_outputs"]["out (file)"]["events"] == 1
            await live.reload(outputs={"out": _BLOCKED})
            await send(sender, "three")
            assert live.daemon.status()["outputs"]["out"]["held"] == 2
            live.assert_closed()


async def test_a_new_output_begins_with_the_next_commit(tmp_path: Path) -> None:
    """What was committed before it was there is not its."""
    async with living(tmp_path) as live:
        with live.sender() as sender:
            await send(sender, "one")
            await live.reload(outputs={"archive": live.file("all"), "more": live.file("more")})
            await send(sender, "two")
            await until(lambda: live.delivered("more") == 1 and live.delivered() == 2)
    assert (_messages(live, "all"), _messages(live, "more")) == (["one", "two"], ["two"])


async def test_the_metrics_of_what_is_removed_go(tmp_path: Path) -> None:
    """A gauge of an output that is no more would alarm for ever."""
    async with living(tmp_path, outputs={"old": _BLOCKED}) as live:
        value = live.daemon.metrics.registry.get_sample_value
        with live.sender() as sender:
            await send(sender, "one")
            await until(lambda: value(OUTPUT_UP.name, {"output": "old"}) == 0)
            await live.reload(outputs={"archive": live.file("all")})
            await send(sender, "two")
            await until(lambda: value(OUTPUT_UP.name, {"output": "archive"}) == 1)
        assert value(OUTPUT_UP.name, {"output": "old"}) is None


# --- all together ------------------------------------------------------------------------------------------


async def test_events_that_pass_meanwhile_are_there_once_and_in_order(tmp_path: Path) -> None:
    """Three senders number their chunks while everything that can change does: each is delivered once, in order."""
    async with living(tmp_path, outputs={"archive": live_file(tmp_path)}) as live:
        stop = asyncio.Event()
        sent: Counter[int] = Counter()

        async def sending(lane: int) -> None:
            with live.sender(attempts=1) as sender:
                while not stop.is_set():
                    await send(sender, f"{lane} {sent[lane]}", tag=f"t{lane}")
                    sent[lane] += 1

        async with asyncio.TaskGroup() as group:
            for lane in range(3):
                group.create_task(sending(lane))
            for turn in range(12):
                await asyncio.sleep(0.03)
                await live.reload(
                    inputs=_forward(live.port, source_address_key=f"from{turn % 2}"),
                    pipelines={
                        "first": {"match": f"t{turn % 3}", "stages": ["redact"], "outputs": ["archive"]},
                        "rest": {"match": "**", "stages": ["normalize", "redact"][turn % 2 :], "outputs": ["archive"]},
                    },
                    outputs={"archive": live_file(tmp_path), f"hole{turn % 2}": {"type": "blackhole"}},
                )
            stop.set()
        await until(lambda: live.delivered() == sent.total())
        live.assert_closed()
    order: dict[str, list[int]] = {}
    for message in _messages(live, "all"):
        name, number = message.split()
        order.setdefault(name, []).append(int(number))
    assert order == {str(lane): [*range(count)] for lane, count in sent.items()}


def live_file(directory: Path) -> dict[str, Any]:
    """The settings of an output that stays."""
    return {"type": "file", "path": str(directory / "out" / "all.ndjson")}
