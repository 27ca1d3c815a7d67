"""One run: the daemon starts, events flow, faults strike, all heals, and the audit has the last word."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from pathlib import Path

from tests.chaos.audit import Status, audit
from tests.chaos.faults import Fault, faults
from tests.chaos.process import DaemonError
from tests.chaos.report import Recovery, Report
from tests.chaos.scene import Options, Scene, scene
from tests.chaos.schedule import Round, rounds
from tests.chaos.tailed import Tailed
from tests.integration.servers import Elasticsearch

_POLL = 0.05
_WATCH = 0.25
_END_SECONDS = 180.0  # for all that was sent to be delivered, once everything is healed


async def run(options: Options, directory: Path, server: Elasticsearch | None) -> Report:
    """Everything in one; `directory` is empty, `server` runs where the output is Elasticsearch."""
    report = Report(options.seed)
    began = time.monotonic()
    if (task := asyncio.current_task()) is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with scene(options, directory, server) as made:
        chosen = _chosen(options, made, report)
        status: Status | None = None
        try:
            report.problems += await _under_fire(made, chosen, report)
            report.compared, status, problems = await audit(made)
            report.problems += problems + (made.proxy.errors if server else [])
        except* DaemonError as troubles:
            report.problems += [str(trouble) for trouble in troubles.exceptions]
        report.describe(made, status)
    report.seconds = time.monotonic() - began
    return report


def _chosen(options: Options, scene: Scene, report: Report) -> list[Fault]:
    """The faults that were asked for and can be had; the others are noted with the reason."""
    known = faults()
    wanted = [known[name] for name in options.faults] or list(known.values())
    report.skipped = {fault.name: scene.missing[fault.needs] for fault in wanted if fault.needs in scene.missing}
    return [fault for fault in wanted if fault.name not in report.skipped]


# --- the middle --------------------------------------------------------------------------------------------


async def _under_fire(scene: Scene, chosen: list[Fault], report: Report) -> list[str]:
    """From the start to the moment when nothing is owed any more; what never came to its end, as sentences."""
    scene.daemon.spawn()
    await scene.daemon.until_ready(scene.patience)
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(_watch(scene))
        load = [group.create_task(each.run()) for each in scene.load]
        await _strike_all(scene, chosen, report)
        for each in scene.load:
            each.finish()
        await asyncio.wait(load, timeout=_END_SECONDS)
        problems = await _settled(scene)
        for task in (watching, *load):
            task.cancel()
    return problems


async def _strike_all(scene: Scene, chosen: list[Fault], report: Report) -> None:
    end = time.monotonic() + scene.options.seconds
    for number, each in enumerate(rounds(scene.options.seed, chosen)):
        if _enough(scene.options, number, report.injected["kill"], time.monotonic() >= end):
            break
        await asyncio.sleep(each.gap)
        await _strike(scene, each)
        recovery = await _recovery(scene) if each.recover else None
        _log(scene, each, recovery)
        report.note(each.fault, recovery if each.beside is None else None)
        if each.beside is not None:
            report.note(each.beside, None)


def _log(scene: Scene, each: Round, recovery: Recovery | None) -> None:
    """For whoever looks into the run's folder."""
    with (scene.directory / "rounds.log").open("a") as log:
        beside = f" with {each.beside.name}" if each.beside else ""
        log.write(f"{time.strftime('%H:%M:%S')} {each.fault.name}{beside}: {recovery}\n")


def _enough(options: Options, struck: int, kills: int, late: bool) -> bool:
    if options.kills:
        return kills >= options.kills
    return struck >= options.rounds if options.rounds else late


async def _strike(scene: Scene, each: Round) -> None:
    async def after(seconds: float, fault: Fault) -> None:
        await asyncio.sleep(seconds)
        await fault.strike(scene, random.Random(f"{each.seed} {fault.name}"))

    async with asyncio.TaskGroup() as group:
        group.create_task(after(0, each.fault))
        if each.beside is not None:
            group.create_task(after(each.later, each.beside))


async def _recovery(scene: Scene) -> Recovery:
    """How long it takes from now until events are acknowledged and delivered again. DaemonError if that never comes."""
    began = time.monotonic()
    acknowledges = delivers = 0.0
    before: int | None = None
    while time.monotonic() < began + scene.patience:
        status = await scene.daemon.ask()
        if status is not None and _is_whole(status):
            delivered = sum(output["delivered"] for output in status["outputs"].values())
            before = delivered if before is None else before
            delivers = delivers or (delivered > before and time.monotonic() - began)
        acknowledges = acknowledges or (scene.forward.last_ack > began and scene.forward.last_ack - began)
        if delivers and acknowledges:
            return Recovery(acknowledges, delivers)
        await asyncio.sleep(_POLL)
    raise DaemonError(f"nothing was taken or delivered again within {scene.patience:.0f} s: {await scene.daemon.ask()}")


async def _watch(scene: Scene) -> None:
    """See that it lives, and tell the files what was read of them."""
    received: dict[str, int] = {}

    def may_rotate(tailed: Tailed) -> bool:
        return scene.daemon.is_down or received.get(tailed.name, 0) > tailed.before

    for tailed in scene.tailed:
        tailed.may_rotate = may_rotate
    while True:
        scene.daemon.check()
        if status := await scene.daemon.ask():
            received |= {name: each["received"] for name, each in status["inputs"].items()}
        await asyncio.sleep(_WATCH)


async def _settled(scene: Scene) -> list[str]:
    """Wait until every line is read and nothing is owed; the sentence that says so if that does not come."""
    if left := scene.forward.unacknowledged():
        return [f"{left} chunks were not acknowledged {_END_SECONDS:.0f} s after the last fault"]
    end = time.monotonic() + _END_SECONDS
    status: Status | None = None
    while time.monotonic() < end:
        status = await scene.daemon.ask()
        if status is not None and _is_settled(scene, status):
            return []
        await asyncio.sleep(_POLL)
    return [f"not everything was read and delivered {_END_SECONDS:.0f} s after the last fault: {status}"]


def _is_whole(status: Status) -> bool:
    """Whether all workers speak in it; where there is one process only, it does."""
    return all(each["state"] == "listening" for each in status.get("workers", []))


def _is_settled(scene: Scene, status: Status) -> bool:
    if not _is_whole(status):
        return False
    read = all(status["inputs"][each.name]["received"] >= each.lines for each in scene.tailed)
    return read and not any(output["held"] for output in status["outputs"].values())
