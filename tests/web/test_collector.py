"""The metrics that are made at scrape time."""

from __future__ import annotations

import logging
from pathlib import Path

import yaml
from prometheus_client import generate_latest

from mcp_ingest.config.load import load
from mcp_ingest.engine.daemon import Daemon
from mcp_ingest.metrics import Metrics
from mcp_ingest.web.collector import SpoolCollector


def test_it_can_be_scraped_before_the_spool_is_open(tmp_path: Path) -> None:
    """A scrape during the start shows an empty spool, not an error."""
    config = {
        "inputs": {"files": {"type": "tail", "paths": [str(tmp_path / "*.log")]}},
        "pipelines": {"p": {"match": "**", "stages": ["redact"]}},
        "outputs": {"blackhole": {}},
        "spool": {"directory": str(tmp_path / "spool")},
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    daemon = Daemon(load(str(tmp_path / "c.yaml")), Metrics(), logging.getLogger("test"))
    daemon.metrics.registry.register(SpoolCollector(daemon, daemon.graph))
    text = generate_latest(daemon.metrics.registry).decode()
    assert "mcp_ingest_spool_chunks 0.0" in text
