"""The report: medians with their range, targets met and missed, programs side by side, plots."""

from __future__ import annotations

import json
from pathlib import Path

from perf import report
from perf.figures import Figures, Spread
from perf.plots import draw
from perf.report import Results
from perf.scenario import Forward, Scenario, Target
from tests.integration.servers import missing

S2 = Scenario(
    title="forward → bulk",
    load=Forward(),
    targets=[Target("floors", at_most=3.0)],
    peers={"Fluentd": "21 floors"},
    name="S2",
)
S6 = Scenario(
    title="drain", load=Forward(), backlog=True, beside="S2", targets=[Target("drain_share", at_least=0.8)], name="S6"
)


def _results() -> Results:
    results = Results({"S2": S2, "S6": S6}, {"mcp-ingest": "1.0", "fluentd": "1.19.3"}, {"Python": "3.13"})
    for ours, theirs in ((2.0, 21.0), (2.5, 25.0), (4.0, 29.0)):
        results.add(S2, "mcp-ingest", {"floors": ours, "rate": 100_000.0, "peak_rss_mb": 80.0})
        results.add(S6, "mcp-ingest", {"floors": ours, "drain_rate": 70_000.0})
        results.add(S2, "fluentd", {"floors": theirs, "rate": 20_000.0, "peak_rss_mb": 210.0})
    return results


def test_a_figure_is_the_median_with_its_range() -> None:
    """The table has the median of the runs, the least and the most, for each program."""
    page = report.markdown(_results())
    assert "| S2 | forward → bulk | mcp-ingest | 2.50 (2.00 to 4.00) |  |" in page
    assert "| S2 | forward → bulk | fluentd | 25.00 (21.00 to 29.00) |  |" in page
    assert "| Python | 3.13 |" in page


def test_targets_are_met_or_not() -> None:
    """A target is held against the median of our own runs."""
    page = report.markdown(_results())
    assert "| S2 | CPU | at most 3.00 floors | 2.50 (2.00 to 4.00) floors | met | Fluentd: 21 floors |" in page
    assert "| at least 0.80 | 0.70 | **not met** |" in page


def test_a_run_is_compared_with_the_median_beside_it() -> None:
    """Draining is a share of the rate that the scenario beside it had in this run of all."""
    results = Results({"S2": S2, "S6": S6}, {"mcp-ingest": "1.0"}, {})
    for rate, drain in ((100.0, 90.0), (50.0, 50.0), (110.0, 100.0)):
        results.add(S2, "mcp-ingest", {"rate": rate})
        results.add(S6, "mcp-ingest", {"drain_rate": drain})
    assert results.spreads("S6", "mcp-ingest")["drain_share"] == Spread(0.9, 0.5, 1.0)


def test_a_stage_is_compared_with_none() -> None:
    """What a stage costs is told by the floors of the same seconds, and given in floors."""
    none = Scenario(title="", load=Forward(), name="S8 none")
    stage = Scenario(title="", load=Forward(), name="S8 drop", beside="S8 none")
    results = Results({each.name: each for each in (none, stage)}, {"mcp-ingest": "1.0"}, {})
    results.add(none, "mcp-ingest", {"floors": 2.0, "floors_meanwhile": 1.0})
    results.add(stage, "mcp-ingest", {"floors": 9.9, "floors_meanwhile": 1.25})
    assert results.spreads("S8 drop", "mcp-ingest")["floors_more"].median == 0.5


def test_a_figure_that_not_every_run_has_is_left_out() -> None:
    """A median is one of all runs or none."""
    results = Results({"S2": S2}, {"mcp-ingest": "1.0"}, {})
    made: list[Figures] = [{"floors": 1.0, "rate": 5.0}, {"floors": 2.0}]
    for figures in made:
        results.add(S2, "mcp-ingest", figures)
    assert list(results.spreads("S2", "mcp-ingest")) == ["floors"]


def test_a_run_that_failed_is_named() -> None:
    """Its reason stands in the page, on one line, before the figures of the others."""
    results = _results()
    assert "## Failed" not in report.markdown(results)
    results.failures.append("S2 by fluentd: it ended with 1\nno such plugin")
    assert "## Failed\n\n- S2 by fluentd: it ended with 1 no such plugin\n" in report.markdown(results)


def test_written_are_the_page_and_every_run(tmp_path: Path) -> None:
    """Beside the page stands each run by itself, as JSON."""
    page = report.write(_results(), tmp_path / "made", ["floors.png"])
    assert "![floors](floors.png)" in page.read_text()
    found = json.loads((tmp_path / "made" / "measurements.json").read_text())
    assert found["scenarios"][0]["runs"][2]["floors"] == 4.0


def test_plots(tmp_path: Path) -> None:
    """There is a picture of each kind for which there are figures, and no other."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        missing("matplotlib is missing (pip install -e '.[perf]')")
    assert draw(_results(), tmp_path) == ["floors.png", "memory.png"]
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in ("floors.png", "memory.png"))
