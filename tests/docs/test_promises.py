"""docs/promises says what is so: the tests that it names are there, its commands, and where each promise ends."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.docs.samples import DOCS, ROOT

FOLDER = DOCS / "promises"
PROMISES = sorted(FOLDER.glob("[0-9]-*.md"))
SECTIONS = ["What it rests on", "How it is tested", "Figures", "Where it ends", "The same place elsewhere"]

_LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")
_COMMAND = re.compile(r"`((?:make|pytest|python) [^`]+)`")


def _named(page: Path) -> str:
    return page.stem


def _sections(page: Path) -> dict[str, str]:
    parts = re.split(r"^## (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@cache
def _tests_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_there_are_nine() -> None:
    """Each promise of the nine has one page, in the table of the folder's README, under its own first sentence."""
    assert [page.stem[:2] for page in PROMISES] == [f"{number}-" for number in range(1, 10)]
    rows = re.findall(r"^\| (\d) \| \[([^\]]+)\]\(([^)]+)\) \| (.+) \|$", _readme(), flags=re.MULTILINE)
    assert [(number, target) for number, _, target, _ in rows] == [(page.stem[0], page.name) for page in PROMISES]
    titles = [re.match(r"# \d\. (.+)\n", page.read_text(encoding="utf-8")) for page in PROMISES]
    assert [name for _, name, _, _ in rows] == [title[1] for title in titles if title]


def _readme() -> str:
    return (FOLDER / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PROMISES, ids=_named)
def test_each_says_the_same_things_in_the_same_order(page: Path) -> None:
    """A promise in bold, then what it rests on, how it is tested, figures, where it ends, and what others do."""
    text = page.read_text(encoding="utf-8")
    assert list(_sections(page)) == SECTIONS
    assert re.match(r"# \d\. .+\n\n\*\*.+?\*\*", text, flags=re.DOTALL), "the promise itself stands below the title"
    assert all(section.strip() for section in _sections(page).values())
    assert len(text.splitlines()) <= 110


@pytest.mark.parametrize("page", PROMISES, ids=_named)
def test_the_tests_that_it_names_are_there(page: Path) -> None:
    """A link to a file of tests has the name of a test in it, which is there; a promise has five at the least."""
    links = [(text, target) for text, target in _LINK.findall(page.read_text(encoding="utf-8")) if "/tests/" in target]
    missing = [
        f"{text} in {target}"
        for text, target in links
        if target.endswith(".py") and text.strip("`") not in _tests_of((page.parent / target).resolve())
    ]
    assert missing == []
    assert len([target for _, target in links if target.endswith(".py")]) >= 5


@pytest.mark.parametrize("page", PROMISES, ids=_named)
def test_its_figures_can_be_made_again(page: Path) -> None:
    """Each row of figures has the command that makes it, of files and targets that there are, or a page that has it."""
    rows = [row for row in _sections(page)["Figures"].splitlines() if row.startswith("|")][2:]
    assert rows
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    for row in rows:
        commands = _COMMAND.findall(row)
        assert commands or _LINK.search(row), row
        for command in commands:
            assert _is_there(command.split(), targets), command


def _is_there(words: list[str], targets: list[str]) -> bool:
    if words[0] == "make":
        return words[1] in targets
    files = [word.partition("::")[0] for word in words if word.startswith(("tests/", "perf/"))]
    modules = [Path(*word.split(".")) for word in words if re.fullmatch(r"(?:tests|perf)(?:\.\w+)*", word)]
    return bool(files or modules) and all((ROOT / name).exists() for name in files) and all(map(_is_module, modules))


def _is_module(path: Path) -> bool:
    return (ROOT / path / "__main__.py").exists() or (ROOT / path).with_suffix(".py").exists()


@pytest.mark.parametrize(
    "ending", ["copytruncate", "UDP", "rollover", "72 hours", "million chunks", "disk that lies", "another [worker]"]
)
def test_where_a_promise_ends_stands_on_its_page(ending: str) -> None:
    """What nobody can keep is named where it ends, on one page at the least."""
    assert any(ending in _sections(page)["Where it ends"] for page in PROMISES)
