"""The samples in README.md and docs: fenced blocks, and what their info string says is to be done with them.

yaml check          a configuration, or sections of one, or a list of stages: it loads
yaml daemon         a configuration: from here on the daemon runs with it
LANGUAGE write=NAME a file that later samples of the page use
LANGUAGE file=PATH  a copy of this file of the repository
console run         commands with what they print: `…` stands for anything, numbers may differ
console stopped     the same while the daemon is stopped; behind it the daemon runs again
console terminal    as `run` prints it on a terminal
python run          a program that ends well
python stage        a stage, with its examples
text tree           folders that are there
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    [
        ROOT / "README.md",
        *(p for p in DOCS.glob("*.md") if p.name not in ("cli.md", "metrics.md")),
        *(DOCS / "promises").glob("*.md"),
    ]
)

_FENCE = re.compile(r"^```(\S+)(?: +(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NUMBERS = re.compile(r"(?:\d[\d.,:TZ-]*|–)(?: ?(?:[KMG]i)?B\b| (?:s|min)\b)?")


class Block(NamedTuple):
    """One sample: where it begins, its language, what is to be done with it, its text."""

    line: int
    language: str
    todo: str
    text: str


class Command(NamedTuple):
    """A line behind `$ ` and the lines that it prints."""

    line: str
    output: str


def blocks(page: Path) -> list[Block]:
    """All samples of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [Block(text.count("\n", 0, m.start()) + 1, m[1], m[2] or "", m[3]) for m in _FENCE.finditer(text)]


def commands(text: str) -> list[Command]:
    """The commands of a console sample; a line that ends with a backslash goes on."""
    found = []
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        line, _, output = part.replace("\\\n", "").partition("\n")
        found.append(Command(line, output))
    return found


def agree(shown: str, printed: str) -> bool:
    """Whether a page shows what was printed, numbers, times and widths of columns apart."""
    expected, got = _plain(shown), _plain(printed)
    pattern = ".*".join(re.escape(piece) for piece in expected.split("…"))
    return re.fullmatch(pattern, got, re.DOTALL) is not None


def _plain(text: str) -> str:
    lines = (" ".join(_NUMBERS.sub("0", line).split()) for line in text.strip().splitlines())
    return "\n".join(lines)
