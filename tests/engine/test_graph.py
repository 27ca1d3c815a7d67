"""The graph of one configuration over a spool that is handed in."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import yaml

from mcp_ingest.config.load import load
from mcp_ingest.config.model import Configuration
from mcp_ingest.context import Budget, SystemClock
from mcp_ingest.engine.graph import Graph, Surroundings
from mcp_ingest.errors import IngestError
from mcp_ingest.metrics import Metrics
from mcp_ingest.spool import Spool
from tests.engine.parts import until

LOG = logging.getLogger("test")


def configuration(directory: Path) -> Configuration:
    """One file that is followed into another, and a spool, all in this folder."""
    directory.mkdir(exist_ok=True)
    path = directory / "config.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "inputs": {"files": {"type": "tail", "paths": [str(directory / "*.log")], "start_at": "head"}},
                "pipelines": {"p": {"match": "**", "stages": ["redact"]}},
                "outputs": {"archive": {"type": "file", "path": str(directory / "out" / "all.ndjson")}},
                "spool": {"directory": str(directory / "spool")},
            }
        )
    )
    return load(str(path))


async def test_a_process_may_have_several_graphs(tmp_path: Path) -> None:
    """Two spools, a graph for each, one set of metrics and one budget: each delivers what came into it."""
    failures: list[IngestError] = []
    around = Surroundings(SystemClock(), Metrics(), LOG, Budget(2**24))
    graphs = []
    for name in ("one", "two"):
        config = configuration(tmp_path / name)
        (tmp_path / name / "a.log").write_text(f"{name}\n")
        types = {output.name: output.type for output in config.outputs.values()}
        graphs.append(Graph(config, Spool(config.spool, types, SystemClock(), LOG, Metrics()), around, failures.append))
    for graph in graphs:
        await graph.spool.open()
        graph.build()
    async with asyncio.TaskGroup() as group:
        for graph in graphs:
            graph.start(group)
        await until(lambda: all((tmp_path / n / "out" / "all.ndjson").exists() for n in ("one", "two")))
        for graph in graphs:
            await graph.finish()
    for graph in graphs:
        await graph.close()
        await graph.spool.close()
    assert failures == []
    for name in ("one", "two"):
        assert f'"message":"{name}"' in (tmp_path / name / "out" / "all.ndjson").read_text()
