"""A whole run with real processes: what it counts, and what it refuses to call a measurement."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from pathlib import Path

import pytest

from perf.__main__ import main
from perf.lines import file_of_lines, grow, make_files
from perf.measure import in_floors, measure
from perf.processes import MeasureError, Running
from perf.program import McpIngest, Place
from perf.scenario import Forward, Lines, ManyFiles, Scenario, Steady, scenarios

SCENARIOS = scenarios()


def _short(name: str, load: Forward | Lines | Steady | ManyFiles) -> Scenario:
    return dataclasses.replace(SCENARIOS[name], load=load)


def test_forward_through_a_chain(tmp_path: Path) -> None:
    """A tenth is dropped, all else reaches the sink, and there are CPU, rate, memory and the time of the start."""
    figures = measure(_short("S3", Forward(events=4_000)), McpIngest(), tmp_path)
    assert 3_400 < figures["documents"] < 3_800
    assert 1 < figures["cpu_us"] < 5_000
    assert figures["rate"] > 100
    assert 10 < figures["peak_anonymous_mb"] < figures["peak_rss_mb"] < 500
    assert 0.05 < figures["listening_seconds"] < 30


def test_nowhere_needs_no_sink(tmp_path: Path) -> None:
    """An output that keeps nothing is measured without a sink."""
    figures = measure(_short("S1", Forward(events=4_000)), McpIngest(), tmp_path)
    assert figures["cpu_us"] > 0
    assert "documents" not in figures


def test_lines_of_a_file(tmp_path: Path) -> None:
    """A file that is put in place is read to its end."""
    assert measure(_short("S4", Lines(events=5_000)), McpIngest(), tmp_path)["documents"] == 5_000


def test_a_backlog_drains(tmp_path: Path) -> None:
    """The sink comes when everything is in the spool, and gets all of it."""
    figures = measure(_short("S6", Forward(events=20_000)), McpIngest(), tmp_path)
    assert figures["documents"] == 20_000
    assert figures["drain_rate"] > 100
    assert 0 < figures["drain_us"] < figures["cpu_us"]


def test_latency_at_a_steady_rate(tmp_path: Path) -> None:
    """The age of the events when the sink has them is between nothing and the whole run."""
    figures = measure(_short("S5", Steady(rate=500, seconds=2, connections=2)), McpIngest(), tmp_path)
    assert 0 < figures["p50_ms"] <= figures["p99_ms"] <= figures["longest_ms"] < 60_000
    assert 0 < figures["cores"] < 2


def test_many_files(tmp_path: Path) -> None:
    """What grows arrives, with its age; what the others cost is counted before."""
    figures = measure(_short("S7", ManyFiles(files=50, active=5, rate=200, seconds=2)), McpIngest(), tmp_path)
    assert figures["documents"] > 20
    assert {"idle_cores", "cores", "p99_ms", "idle_rss_mb"} <= set(figures)


def test_a_program_that_ends_is_no_measurement(tmp_path: Path) -> None:
    """A daemon that cannot start makes the run fail, with what it said."""
    broken = dataclasses.replace(SCENARIOS["S2"], stages=[{"drop": {"when": "=="}}])
    with pytest.raises(MeasureError, match=r"S2 by mcp-ingest: it ended with 2\n.*invalid syntax"):
        measure(broken, McpIngest(), tmp_path)


def test_the_cpu_of_children_counts(tmp_path: Path) -> None:
    """What a program's children burn is the program's, while they live and after they have ended."""
    burn = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    parent = f"import subprocess, sys, time\nfor _ in range(2): subprocess.run([sys.executable, '-c', {burn!r}])\n"
    with Running([sys.executable, "-c", f"{parent}time.sleep(60)"], tmp_path) as running:
        end = time.monotonic() + 30
        while running.cpu_seconds() < 0.6 and time.monotonic() < end:
            time.sleep(0.05)
        running.check()
        assert 0.6 <= running.cpu_seconds() < 5


def test_stopping_takes_the_children_along(tmp_path: Path) -> None:
    """No process is left of a program that was stopped."""
    parent = "import subprocess, sys, time\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(77.5)'])\n"
    with Running([sys.executable, "-c", f"{parent}print('up', flush=True)\ntime.sleep(60)"], tmp_path) as running:
        while "up" not in running.tail():
            time.sleep(0.02)
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert "time.sleep(77.5)" not in listed


def test_floors() -> None:
    """Costs are given in floors, and in those of the same seconds, beside the microseconds."""
    assert in_floors({"cpu_us": 6.0, "rate": 5.0}, 2.0, 3.0) == {
        "cpu_us": 6.0, "rate": 5.0, "floor_us": 2.0, "floors": 3.0, "floors_meanwhile": 2.0,
    }  # fmt: skip


def test_files_of_lines(tmp_path: Path) -> None:
    """A file has as many lines as it is asked for, each an object, and is made once."""
    path = file_of_lines(tmp_path, 25_000)
    lines = path.read_bytes().splitlines()
    assert len(lines) == 25_000
    assert all(line.startswith(b"{") and line.endswith(b"}") for line in lines)
    assert file_of_lines(tmp_path, 25_000) == path


def test_files_grow_in_turn(tmp_path: Path) -> None:
    """Lines with the time when they were written are spread over the files, at the rate asked for."""
    paths = make_files(tmp_path, 4)
    written = grow(paths[:2], 500, 0.2)
    counts = [path.read_bytes().count(b'"sent_ns":') for path in paths]
    assert sum(counts) == written
    assert 2 <= written <= 110
    assert counts[2:] == [0, 0]
    assert abs(counts[0] - counts[1]) <= 1


def test_place_is_of_its_own(tmp_path: Path) -> None:
    """Each run has its ports to itself."""
    place = Place(tmp_path)
    assert len({place.forward_port, place.http_port, place.sink_port}) == 3


def test_the_command_writes_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One scenario by name: a line for each run, the page, and what is missed as the exit code."""
    arguments = ["--only", "S1", "--runs", "1", "--events", "4000", "--results", str(tmp_path), "--directory"]
    assert main([*arguments, str(tmp_path)]) in (0, 1)
    shown = capsys.readouterr().out
    assert "| S1 | forward → nowhere | mcp-ingest |" in shown
    assert (tmp_path / "part" / "report.md").exists()
    assert not (tmp_path / "report.md").exists()
