"""SIGHUP, again and again, each time with another configuration; the last one is the first again."""

from __future__ import annotations

import asyncio
import copy
import random
import time
from pathlib import Path
from typing import Any

import yaml

from tests.chaos.faults import Fault
from tests.chaos.scene import Scene


def _others(config: dict[str, Any], pipelines: Path) -> dict[str, Any]:
    """Other settings for every input and output, and another stage before all others, in a file of its own."""
    made = copy.deepcopy(config)
    made["inputs"]["forward"]["source_address_key"] = "sender"
    for name, each in made["inputs"].items():
        if name != "forward":
            each["max_line_bytes"] = "2MiB"
    for each in made["outputs"].values():
        each["max_request_bytes"] = "1MiB"
    (include,) = made["include"]
    included = yaml.safe_load(Path(include).read_text())
    for pipeline in included["pipelines"].values():
        pipeline["stages"].insert(0, {"drop": {"when": "no_such_field == 1"}})
    pipelines.write_text(yaml.safe_dump(included, sort_keys=False))
    return {**made, "include": [str(pipelines)]}


async def _reload(scene: Scene, rng: random.Random) -> None:
    before = scene.daemon.configuration()
    both = before, _others(before, scene.daemon.config.with_name("other-pipelines.yaml"))
    end, turn = time.monotonic() + scene.lasts(rng, 0.5, 8), 0
    try:
        while time.monotonic() < end:
            turn += 1
            scene.daemon.configure(both[turn % 2])
            await scene.daemon.hang_up()
            await asyncio.sleep(rng.uniform(0.05, 0.5))
    finally:
        scene.daemon.configure(before)
        await scene.daemon.hang_up()


FAULTS = (Fault("reloads", "SIGHUP with other settings of all inputs and outputs, back and forth", _reload),)
