"""docs/speed.md shows what was measured and kept, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from perf import page, report
from perf.page import PAGE, filled, made, results, scenario_table
from perf.report import Results
from perf.scenario import scenarios


def test_the_page_shows_what_was_measured() -> None:
    """Its tables are those of the kept measurements; else run `python -m perf.page`."""
    text = PAGE.read_text(encoding="utf-8")
    assert filled(text, made()) == text


def test_every_table_has_its_place() -> None:
    """What is made of the measurements stands on the page, each once."""
    places = re.findall(r"<!-- made: ([\w ]+) -->", PAGE.read_text(encoding="utf-8"))
    assert sorted(places) == sorted(made())


def _results() -> Results:
    known = {each.name: each for scenario in scenarios().values() for each in scenario.expanded()}
    names = ["S2", "S3", "S7", "S8 none", "S8 redact"]
    found = Results({name: known[name] for name in names}, {"mcp-ingest": "1.0", "fluent-bit": "5.1"}, {})
    for floors in (2.0, 4.0, 3.0):
        found.add(known["S2"], "mcp-ingest", {"floors": floors})
        found.add(known["S2"], "fluent-bit", {"floors": floors + 1})
        found.add(known["S3"], "mcp-ingest", {"floors": floors, "peak_rss_mb": 80.0})
        found.add(known["S7"], "mcp-ingest", {"p50_ms": floors, "cores": 0.5, "floors": 9.0})
        found.add(known["S8 none"], "mcp-ingest", {"floors": floors, "floors_meanwhile": 2.0})
        found.add(known["S8 redact"], "mcp-ingest", {"floors": floors, "floors_meanwhile": 3.0})
    return found


def test_a_line_for_each_target_and_the_peers_beside_it() -> None:
    """Medians with their range, targets in words, peers measured here in a column of their own."""
    lines = scenario_table(_results()).splitlines()
    assert lines[0] == (
        "|  | scenario | mcp-ingest | target | fluent-bit, here | Fluentd 1.19.3 | Fluent Bit 5.1.1 | rsyslog 8.2302 |"
    )
    assert lines[2].startswith(
        "| S2 | forward → spool → bulk | 3.00 (2.00 to 4.00) floors | at most 3.00 floors | 4.00 ("
    )
    assert lines[3].endswith("| at most 5.00 floors |  | 123 to 136 floors, 213 MB | 14.4 to 16, 80 MB |  |")
    assert lines[4] == "|  |  | 80 MB (most memory (RSS)) | at most 150 MB |  |  |  |  |"


def test_what_has_no_target_shows_what_it_is_about() -> None:
    """Latency and share of a core for files; what a stage costs the whole daemon is left out."""
    lines = scenario_table(_results()).splitlines()
    assert lines[5].startswith("| S7 | 10,000 tailed files")
    assert "3.0 (2.0 to 4.0) ms (latency, half of the events below)" in lines[5]
    assert len(lines) == 7
    assert "0.500 of a core (CPU)" in lines[6]


def test_kept_measurements_are_read_back(tmp_path: Path) -> None:
    """What `make perf` keeps is what the table is made of."""
    report.write(_results(), tmp_path)
    again = results(tmp_path / "measurements.json")
    assert again.runs == _results().runs
    assert scenario_table(again) == scenario_table(_results())


def test_a_place_without_a_table_is_an_error() -> None:
    """A page that asks for what nobody measures is wrong."""
    text = "<!-- made: steps S3 -->\nold\n<!-- end -->\n"
    assert filled(text, {"steps S3": "new"}) == "<!-- made: steps S3 -->\nnew\n<!-- end -->\n"
    with pytest.raises(KeyError):
        filled(text, {})


def test_writing_brings_the_page_up_to_date(tmp_path: Path) -> None:
    """A stale table is replaced, all else stays; the second time nothing is to be done."""
    path = tmp_path / "speed.md"
    path.write_text("# Speed\n\n<!-- made: machine -->\nold\n<!-- end -->\nrest\n")
    assert page.write(path)
    text = path.read_text()
    assert "Measured on: " in text
    assert text.endswith("<!-- end -->\nrest\n")
    assert not page.write(path)
