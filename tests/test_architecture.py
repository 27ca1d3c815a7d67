"""The house keeps its own rules: who imports whom, tests beside modules, small files, tests that say what they hold."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "mcp_ingest"
MODULES = sorted(PACKAGE.rglob("*.py"))
_SHARED = {"component", "context", "errors", "event", "expression", "masking", "metrics", "verdict", "codecs"}
_PARTS = {"inputs", "stages", "outputs", "spool", "engine", "config"}
ALLOWED = {
    "codecs": {"errors"},
    "inputs": _SHARED,
    "stages": _SHARED,
    "spool": _SHARED,
    "outputs": _SHARED,
    "engine": _SHARED | _PARTS,
    "config": _SHARED | _PARTS,
    "cli": {"engine", "config", "client", "web", *_SHARED, *_PARTS},
    "web": {"engine", "config", "client", *_SHARED, *_PARTS},
    "client": {"codecs", "errors"},
}
_NO_IO = {"asyncio", "socket", "logging", "time", "select", "selectors", "threading", "subprocess", "pathlib", "os"}


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _ours(path: Path) -> set[str]:
    return {name.split(".")[1] for name in _imports(path) if name.startswith("mcp_ingest.")}


def _id(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=_id)
def test_who_may_import_whom(path: Path) -> None:
    """A room imports what the map allows it to, and nothing else of ours."""
    room = _room(path)
    if room not in ALLOWED:
        return
    own = {room} if room in {"codecs", "spool", "engine", "config", "cli", "web", "client"} else set()
    allowed = ALLOWED[room] | own | {"__version__"}
    assert _ours(path) - allowed - ({room} if path.parent != PACKAGE / room else set()) <= (
        {room} if _only_private(path, room) else set()
    )


def _only_private(path: Path, room: str) -> bool:
    """Inputs, stages and outputs import no sibling but private helpers (`_x`) and parts of their own package."""
    siblings = [n.split(".")[2] for n in _imports(path) if n.startswith(f"mcp_ingest.{room}.") and n.count(".") >= 2]
    relative = path.relative_to(PACKAGE / room).parts
    own = relative[0].removesuffix(".py")
    return all(name.startswith("_") or name == own for name in siblings)


@pytest.mark.parametrize("path", sorted((PACKAGE / "codecs").glob("*.py")), ids=_id)
def test_codecs_do_no_io(path: Path) -> None:
    """A codec imports nothing that waits, reads a clock or touches a file."""
    assert not {name.split(".")[0] for name in _imports(path)} & _NO_IO


@pytest.mark.parametrize("path", MODULES, ids=_id)
def test_every_module_has_its_test(path: Path) -> None:
    """`mcp_ingest/a/b.py` has `tests/a/test_b.py`; the inner parts of `a/b/` or `b_part.py` may share `test_b.py`."""
    if not any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in ast.walk(ast.parse(path.read_text()))
    ):
        return
    relative = path.relative_to(PACKAGE)
    folder = ROOT / "tests" / relative.parent
    stem = path.stem.strip("_")
    candidates = [
        folder / f"test_{stem}.py",
        folder / f"test_{folder.name}.py",
        folder.parent / f"test_{folder.name}.py",
    ]
    candidates += [test for test in folder.glob("test_*.py") if stem.startswith(test.stem.removeprefix("test_") + "_")]
    if path.stem.startswith("_"):
        candidates += folder.glob("test_*.py")
    assert any(candidate.exists() for candidate in candidates), f"missing {candidates[0].relative_to(ROOT)}"


@pytest.mark.parametrize("path", MODULES, ids=_id)
def test_files_and_functions_stay_small(path: Path) -> None:
    """No file is over 600 lines and no function over 60."""
    text = path.read_text()
    assert text.count("\n") <= 600
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, node.name


@pytest.mark.parametrize("path", MODULES, ids=_id)
def test_tasks_have_an_owner(path: Path) -> None:
    """Tasks are made in a `TaskGroup`: nobody calls a bare `create_task` or `ensure_future`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in {"asyncio", "loop"}
        ):
            assert node.attr not in {"create_task", "ensure_future"}, f"line {node.lineno}"


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("test_*.py")), ids=_id)
def test_tests_say_what_they_hold(path: Path) -> None:
    """Each test's docstring is one sentence of behaviour."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            assert ast.get_docstring(node), f"{node.name} in line {node.lineno}"


def test_run_imports_no_more_than_it_needs() -> None:
    """`mcp-ingest run` starts without pydantic, the whole Elasticsearch client or what only tests need."""
    import subprocess

    code = "import sys, mcp_ingest.cli.run; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"pydantic", "elasticsearch", "tantivy", "rich", "luqum", "pytest"} & set(loaded)
