"""`mcp-ingest query`: what it prints, in which form, and with which exit code."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mcp_ingest.cli import main
from mcp_ingest.cli.query import value
from mcp_ingest.outputs.store import parts
from mcp_ingest.outputs.store.shelf import Shelf
from mcp_ingest.verdict import Part
from tests.outputs.store.test_store import NOON, Clock

EVENTS: list[dict[str, Any]] = [
    {"log_level": "INFO", "service_name": "gateway", "message": "first\nline", "metadata": {"region": "eu"}},
    {"log_level": "ERROR", "service_name": "model-router", "message": "second \x1b[31mred", "n": 5},
    {"log_level": "WARNING", "service_name": "auth", "message": "third, with a comma"},
]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration whose store has the events, a minute apart."""
    lines = [
        json.dumps({"@timestamp": f"2026-11-22T12:0{n}:00.000000000Z", **event}).encode()
        for n, event in enumerate(EVENTS)
    ]
    times = [NOON + n * 60 * parts.SECOND for n in range(len(lines))]
    writer = Shelf(tmp_path / "store", Clock(), 15_000_000, 10**18, 2**40)
    writer.add(Part("ab-1", ["a", "b", "c"], times, ["t"] * 3, ["2026-11-22"] * 3, lines))
    writer.close()
    file = tmp_path / "mcp-ingest.yaml"
    file.write_text(
        f"""\
inputs: {{forward: {{port: 0}}}}
pipelines: {{all: {{match: "**", stages: [{{redact: {{packs: [pci, secrets]}}}}], outputs: [store, screen]}}}}
outputs: {{store: {{directory: {tmp_path}/store}}, screen: {{type: stdout}}}}
"""
    )
    return file


def query(config: Path, *arguments: str) -> Result:
    """What the command does."""
    return CliRunner().invoke(main, ["query", "-c", str(config), *arguments])


def test_table(config: Path) -> None:
    """Without a terminal the table is plain, aligned text, the newest first, one line an event and no escapes."""
    result = query(config)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "@timestamp                      log_level  service_name  message",
        "2026-11-22T12:02:00.000000000Z  WARNING    auth          third, with a comma",
        "2026-11-22T12:01:00.000000000Z  ERROR      model-router  second �[31mred",
        "2026-11-22T12:00:00.000000000Z  INFO       gateway       first⏎line",
    ]


def test_ndjson(config: Path) -> None:
    """With ndjson every line is the whole event."""
    result = query(config, "log_level:ERROR", "--format", "ndjson")
    (event,) = map(json.loads, result.stdout.splitlines())
    assert event == {"@timestamp": "2026-11-22T12:01:00.000000000Z", **EVENTS[1]}


def test_csv(config: Path) -> None:
    """With csv there are the chosen columns, also out of maps, quoted where needed."""
    result = query(config, "--format", "csv", "--fields", "message, metadata.region,n", "--oldest-first")
    rows = list(csv.reader(io.StringIO(result.stdout)))
    assert rows == [
        ["message", "metadata.region", "n"],
        ["first\nline", "eu", ""],
        ["second \x1b[31mred", "", "5"],
        ["third, with a comma", "", ""],
    ]


def test_bounds_and_limit(config: Path) -> None:
    """`--from`, `--to` and `--limit` bound what is shown, and a rest is mentioned beside the output."""
    result = query(config, "--from", "2026-11-22T12:01", "--to", "2026-11-22T12:02:00Z", "--limit", "1")
    assert result.stdout.count("\n") == 2
    assert "third" in result.stdout
    assert "1 of 2" in result.stderr
    assert query(config, "--from", "now+1d").exit_code == 1


def test_nothing_found(config: Path) -> None:
    """No hit is exit code 1 and no output."""
    result = query(config, "log_level:CRITICAL")
    assert (result.exit_code, result.stdout) == (1, "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a~"], "fuzzy"),
        (["(a"], "Lucene"),
        (["--from", "soon"], "not a time"),
        (["--limit", "0"], "--limit"),
        (["--output", "screen"], "no output 'screen' that can be searched; there is store"),
    ],
)
def test_mistakes(config: Path, arguments: list[str], said: str) -> None:
    """A wrong text or option is exit code 2 and a sentence."""
    result = query(config, *arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def test_no_searchable_output(tmp_path: Path) -> None:
    """A configuration without a store or an Elasticsearch says so."""
    file = tmp_path / "mcp-ingest.yaml"
    file.write_text(
        "inputs: {forward: {}}\npipelines: {all: {match: '**', stages: [], outputs: [stdout]}}\noutputs: {stdout: {}}\n"
    )
    result = query(file)
    assert result.exit_code == 2
    assert "no output that can be searched" in result.stderr


def test_an_output_that_is_away(tmp_path: Path) -> None:
    """Scripts can tell nothing found from nothing searched: exit code 3 and the reason."""
    file = tmp_path / "mcp-ingest.yaml"
    file.write_text(
        "inputs: {forward: {}}\npipelines: {all: {match: '**', stages: []}}\n"
        "outputs: {elasticsearch: {hosts: ['http://127.0.0.1:9']}}\n"
    )
    result = query(file)
    assert result.exit_code == 3
    assert "127.0.0.1:9" in result.stderr


def test_values() -> None:
    """A value is looked for under its dotted name and inside of maps; what is no string is JSON."""
    event = {"a.b": 1, "c": {"d": {"e": [True, None]}}}
    assert [value(event, name) for name in ("a.b", "c.d", "c.d.e", "c.x.e", "z")] == [
        "1", '{"e":[true,null]}', "[true,null]", "", "",
    ]  # fmt: skip
