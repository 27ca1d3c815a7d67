"""The plots of a report: CPU in floors, latency and memory. They need matplotlib, of the extra `perf`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from perf.report import Results

_COLOURS = ("#1f6f8b", "#d98f39", "#7a6a99", "#5f8f4e")
_SIZE = (9.0, 5.0)
_WIDE = 30  # from the least to the most


def draw(results: Results, folder: Path) -> list[str]:
    """Draw every plot for which there are figures; the names of the files, in this folder."""
    import matplotlib

    matplotlib.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {
        "floors.png": ("floors", "CPU an event, in floors: each run, the median, and the target"),
        "latency.png": ("p99_ms", "Latency at 99 %, in milliseconds"),
        "memory.png": ("peak_rss_mb", "Most memory (RSS), in MB"),
    }
    return [name for name, (figure, title) in wanted.items() if _bars(results, figure, title, folder / name)]


def _bars(results: Results, figure: str, title: str, path: Path) -> bool:
    from matplotlib import pyplot

    names = [
        name for name in results.scenarios if any(figure in results.spreads(name, each) for each in results.programs)
    ]
    if not names:
        return False
    shape, axes = pyplot.subplots(figsize=_SIZE, layout="constrained")
    height = 0.8 / len(results.programs)
    for place, program in enumerate(results.programs):
        _one_program(axes, results, figure, program, names, (place * height, height, _COLOURS[place]))
    _target_marks(axes, results, figure, names)
    axes.set_yticks([row + 0.4 - height / 2 for row in range(len(names))], names)
    axes.invert_yaxis()
    _scale(axes, results, figure)
    axes.set_title(title, loc="left", fontsize=11)
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    shape.savefig(path, dpi=120)
    pyplot.close(shape)
    return True


def _scale(axes: Any, results: Results, figure: str) -> None:
    """Logarithmic where one scenario or program would leave nothing to be seen of the others."""
    values = [figures[figure] for made in results.runs.values() for figures in made if figures.get(figure)]
    if max(values) > _WIDE * min(values):
        axes.set_xscale("log")


def _one_program(
    axes: Any, results: Results, figure: str, program: str, names: list[str], shape: tuple[float, float, str]
) -> None:
    offset, height, colour = shape
    rows = [(row, results.spreads(name, program).get(figure)) for row, name in enumerate(names)]
    there = [(row + offset, spread.median) for row, spread in rows if spread is not None]
    places = [row for row, _ in there]
    axes.barh(places, [median for _, median in there], height * 0.9, color=colour, alpha=0.75, label=program)
    dots = [
        (row + offset, figures[figure])
        for row, name in enumerate(names)
        for figures in results.runs.get((name, program), [])
        if figure in figures
    ]
    axes.scatter([value for _, value in dots], [row for row, _ in dots], s=12, color="black", zorder=3, alpha=0.6)


def _target_marks(axes: Any, results: Results, figure: str, names: list[str]) -> None:
    marks = [
        (target.at_most, row)
        for row, name in enumerate(names)
        for target in results.scenarios[name].targets
        if target.figure == figure and target.at_most is not None
    ]
    if marks:
        axes.scatter(
            [bound for bound, _ in marks], [row for _, row in marks], marker="|", s=500, color="#b3261e", zorder=4,
            linewidths=2, label="target",
        )  # fmt: skip
