"""Which spool is whose: worker 0 has the spool's folder itself, as a daemon alone does, worker K has `worker-K` in it.

So `workers` may change from run to run. A folder of a worker that is no more is an orphan: one of the present workers
(the daemon, if it is alone) opens it whole, delivers what it holds, and goes on with the files whose positions it has.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import msgspec

from mcp_ingest.component import ByteSize, find
from mcp_ingest.config.model import LEAST_IN_FLIGHT, ComponentConfig, Configuration
from mcp_ingest.context import Positions, Share
from mcp_ingest.errors import SpoolError
from mcp_ingest.spool import SpoolReader
from mcp_ingest.spool.files import DATABASE
from mcp_ingest.spool.model import SpoolSettings
from mcp_ingest.spool.recovery import is_there

_WORKER = re.compile(r"worker-(\d{1,4})")


def folder_of(directory: Path, index: int) -> Path:
    """The folder of this worker's spool."""
    return directory / f"worker-{index}" if index else directory


def workers_there(directory: Path) -> list[int]:
    """The workers that have left a spool that can be looked into, in order; worker 0 need not be among them."""
    return [index for index in (0, *_folders(directory)) if (folder_of(directory, index) / DATABASE).exists()]


def _folders(directory: Path) -> list[int]:
    """The workers above 0 that have a folder, in order."""
    matches = (_WORKER.fullmatch(each.name) for each in (directory.iterdir() if directory.is_dir() else ()))
    return sorted(int(match[1]) for match in matches if match and match[1] != "0")


def orphans(directory: Path, count: int, index: int = 0) -> list[int]:
    """The workers that are no more whose spools, or what damage has left of them, fall to worker `index` of `count`."""
    left = [each for each in _folders(directory) if is_there(folder_of(directory, each))]
    return [each for each in left if each >= count and each % count == index]


def settings_of(settings: SpoolSettings, index: int, count: int) -> SpoolSettings:
    """The spool of one of several workers: its own folder, and an equal part of the bytes."""
    folder = str(folder_of(Path(settings.directory), index))
    letters, bound = settings.dead_letters, settings.dead_letters.max_bytes
    if bound is not None:
        letters = msgspec.structs.replace(letters, max_bytes=ByteSize(bound // count))
    max_bytes = ByteSize(settings.max_bytes // count)
    return msgspec.structs.replace(settings, directory=folder, max_bytes=max_bytes, dead_letters=letters)


def config_of(config: Configuration, share: Share) -> Configuration:
    """What of the configuration this worker runs: the inputs that it has a part in, its part of every bound."""
    wanted = ("items",) if share.index >= share.count else ("ports", "items")
    if share.index == 0:
        wanted = (*wanted, "one")
    inputs = {name: each for name, each in config.inputs.items() if find("input", each.type).sharing in wanted}
    spool = settings_of(config.spool, share.index, share.count)
    outputs = {name: _part_of(each, share.count) for name, each in config.outputs.items()}
    in_flight = ByteSize(max(config.memory.max_in_flight // share.count, LEAST_IN_FLIGHT))
    memory = msgspec.structs.replace(config.memory, max_in_flight=in_flight)
    return dataclasses.replace(config, inputs=inputs, outputs=outputs, spool=spool, memory=memory)


def _part_of(output: ComponentConfig, count: int) -> ComponentConfig:
    bound = output.settings.max_backlog
    if bound is None or count == 1:
        return output
    return dataclasses.replace(
        output, settings=msgspec.structs.replace(output.settings, max_backlog=ByteSize(bound // count))
    )


def refusals_of_workers(first: Configuration, found: Configuration, share: Share) -> list[str]:
    """A sentence for each thing that only the supervisor could change, which a reload does not reach."""
    problems = []
    if found.http != first.http:
        problems.append("http: with several workers a reload cannot change it; stop the daemon and start it again")
    for name, each in found.inputs.items():
        chosen = find("input", each.type).sharing != "ports" or each.settings.port or name in share.ports
        if not chosen:
            problems.append(f"{each.place}: {name}: with several workers a reload cannot choose a free port")
    return problems


def positions_there(directory: Path) -> Positions:
    """What every spool has committed, while none of them is open; one that cannot be read has nothing to say."""
    found: dict[int, dict[str, bytes]] = {}
    for index in workers_there(directory):
        try:
            with SpoolReader(folder_of(directory, index)) as spool:
                found[index] = spool.positions()
        except SpoolError:
            found[index] = {}
    return found
