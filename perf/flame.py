"""A flame graph as a still picture (SVG): stacks with their numbers of samples in, boxes out, coloured by part.

A box is a function, its width the share of the samples in which it was under way; what it called stands below it. A
box's tooltip has its file and its share. No script is in it, so that a page shows it as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import groupby

_WIDTH, _ROW, _MARGIN, _HEAD = 1200.0, 18, 10.0, 62
_LETTER = 6.6  # width of a letter, in pixels
_LEAST_SHARE = 0.002  # of the whole: narrower is hardly two pixels wide
_TOP, _OTHER = "#d5d5d5", "#b9b9b9"


@dataclass
class Box:
    """A function below its callers: `file` is empty for what is none; samples with and without those below it."""

    name: str
    file: str = ""
    samples: int = 0
    below: dict[tuple[str, str], Box] = field(default_factory=dict)

    def add(self, stack: Sequence[tuple[str, str]], samples: int) -> None:
        """Count a stack, the outermost function first."""
        box = self
        box.samples += samples
        for name, file in stack:
            box = box.below.setdefault((name, file), Box(name, file))
            box.samples += samples


def drawn(root: Box, title: str, colours: Mapping[str, str]) -> str:
    """The picture. A box has the colour of the longest beginning of its file that is in `colours`, else grey."""
    least = root.samples * _LEAST_SHARE
    scale = (_WIDTH - 2 * _MARGIN) / max(root.samples, 1)
    rows = [*_rows(root, 0, 0, least)]
    height = _HEAD + _ROW * (max((depth for _, depth, _ in rows), default=0) + 1) + _MARGIN
    boxes = [
        _box(box, depth, _MARGIN + at * scale, box.samples * scale, root.samples, colours) for box, depth, at in rows
    ]
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:.0f} {height:.0f}"'
        ' font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="11">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="{_MARGIN}" y="22" font-size="15">{escape(title)}</text>',
        *_legend(colours),
        *boxes,
        "</svg>\n",
    ])  # fmt: skip


def _rows(box: Box, depth: int, at: int, least: float) -> Iterator[tuple[Box, int, int]]:
    """Each box that is wide enough, its depth, and the samples to the left of it; the wide ones first."""
    for below in sorted(box.below.values(), key=lambda each: -each.samples):
        if below.samples >= least:
            yield below, depth, at
            yield from _rows(below, depth + 1, at, least)
        at += below.samples


def _box(box: Box, depth: int, x: float, width: float, whole: int, colours: Mapping[str, str]) -> str:
    y = _HEAD + depth * _ROW
    share = f"{box.name}{f' ({box.file})' if box.file else ''}: {100 * box.samples / whole:.1f} %"
    letters = int((width - 4) / _LETTER)
    text = box.name if len(box.name) <= letters else f"{box.name[: letters - 1]}…" if letters > 3 else ""
    label = f'<text x="{x + 3:.1f}" y="{y + 12.5:.1f}">{escape(text)}</text>' if text else ""
    return (
        f"<g><title>{escape(share)}</title>"
        f'<rect x="{x:.1f}" y="{y}" width="{max(width - 0.5, 0.3):.1f}" height="{_ROW - 1}" rx="1.5"'
        f' fill="{_colour(box.file, colours)}"/>{label}</g>'
    )


def _colour(file: str, colours: Mapping[str, str]) -> str:
    fitting = [start for start in colours if file.startswith(start)]
    return colours[max(fitting, key=len)] if fitting else _OTHER if file else _TOP


def _legend(colours: Mapping[str, str]) -> Iterator[str]:
    """Each colour once, with all beginnings of files that have it."""
    x = _MARGIN
    starts = sorted(colours, key=lambda start: [*colours.values()].index(colours[start]))
    for colour, some in groupby(starts, lambda start: colours[start]):
        text = ", ".join(start.removeprefix("mcp_ingest/").rstrip("/") for start in some)
        yield f'<rect x="{x:.1f}" y="36" width="11" height="11" fill="{colour}"/>'
        yield f'<text x="{x + 15:.1f}" y="46">{escape(text)}</text>'
        x += 15 + (len(text) + 3) * _LETTER
