"""The pages of docs name what is there: metrics, files of the package, tests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mcp_ingest.metrics import catalogue
from tests.docs.samples import DOCS, PAGES, ROOT

PACKAGE = ROOT / "mcp_ingest"
_METRIC = re.compile(r"\bmcp_ingest_[a-z_]+")
_TEST = re.compile(r"\[`(test_\w+)`\]\((\S+?\.py)\)")


def _named(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=_named)
def test_metrics_are_declared(page: Path) -> None:
    """Each metric that a page names is one of ours."""
    known = {metric.name + ("_total" if metric.kind == "counter" else "") for metric in catalogue()}
    named = set(_METRIC.findall(page.read_text(encoding="utf-8")))
    assert named <= known, named - known


@pytest.mark.parametrize("page", PAGES, ids=_named)
def test_tests_are_there(page: Path) -> None:
    """A test that a page names is in the file to which the link leads."""
    for name, target in _TEST.findall(page.read_text(encoding="utf-8")):
        assert f"def {name}(" in (page.parent / target).read_text(encoding="utf-8"), name


def test_the_map_of_modules_names_files_that_are_there() -> None:
    """Each file in the table of docs/design.md exists; one without a folder is in that of the one before."""
    text = (DOCS / "design.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \*\*.+?\*\*: (.+?) \|", text, flags=re.MULTILINE)
    assert len(rows) > 10
    for row in rows:
        folder = ""
        for name in re.findall(r"`([^`]+(?:\.py|/))`", row):
            folder = name.rpartition("/")[0] or folder
            path = PACKAGE / (name if "/" in name else f"{folder}/{name}")
            assert path.exists(), path
