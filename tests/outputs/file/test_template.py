"""paths of the file output: what an event says never chooses the folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_ingest.event import Batch, Origin
from mcp_ingest.outputs.file.template import folder, paths, template_problem

NOON = 1_795_348_800_000_000_000  # 2026-11-22T12:00:00Z
DAY = 86_400 * 10**9


def made(template: str, records: list[dict[str, Any]], times: list[int] | None = None, tag: str = "a.b") -> list[str]:
    """The path for each record."""
    each = times or [NOON] * len(records)
    return paths(template).address(Batch.of(Origin("i", "p" * 20, NOON), tag, each, records, list(range(len(each)))))


@pytest.mark.parametrize(
    ("template", "record", "path"),
    [
        ("/x/{tag}.gz", {}, "/x/a.b.gz"),
        ("/x/{@timestamp:%Y/%m-%d %H}/f", {}, "/x/2026/11-22 12/f"),
        ("{service_name}/f", {"service_name": "model router"}, "model router/f"),
        ("{metadata.region}/f", {"metadata": {"region": "eu"}}, "eu/f"),
        ("{service.name}/f", {"service.name": "x"}, "x/f"),
        ("{n}/f", {"n": 5}, "5/f"),
        ("{n}/f", {}, "unknown/f"),
        ("{n}/f", {"n": {"a": 1}}, "unknown/f"),
        ("x/{n}/f", {"n": "../../etc/passwd"}, "x/___.._etc_passwd/f"),
        ("x/{n}/f", {"n": ".."}, "x/__/f"),
        ("x/{n}/f", {"n": "/abs"}, "x/_abs/f"),
        ("x/{n}/f", {"n": "a\0b\n"}, "x/a_b/f"),
    ],
)
def test_paths(template: str, record: dict[str, Any], path: str) -> None:
    """Tag, time and fields fill the template, made safe."""
    assert made(template, [record]) == [path]


def test_undated() -> None:
    """An event without a time, or one far from its receipt, is undated."""
    times = [0, NOON - 31 * DAY, NOON + 2 * DAY, NOON - DAY]
    assert made("{@timestamp:%d}", [{}] * 4, times) == ["undated", "undated", "undated", "21"]


@pytest.mark.parametrize(
    "template", ["", "x/", "x/{tag", "x/tag}", "{@timestamp}", "{@timestamp:%s}", "{@timestamp:%M}"]
)
def test_problems(template: str) -> None:
    """A template that cannot be meant is a mistake."""
    assert template_problem(template)


@pytest.mark.parametrize(
    ("template", "expected"), [("/x/y/{tag}/f", "/x/y"), ("x-{tag}", "."), ("a/b", "a"), ("/{tag}", "/"), ("f", ".")]
)
def test_folder(template: str, expected: str) -> None:
    """The folder that holds all files is what stands before the first field."""
    assert folder(template) == expected
    assert template_problem(template) is None


@settings(deadline=None)
@given(st.text(max_size=300), st.text(max_size=300))
def test_no_value_leaves_the_folder(value: str, tag: str) -> None:
    """Whatever an event says, its path has the template's folders and no others, in names that a disk can hold."""
    path = made("/x/{tag}/{n}", [{"n": value}], tag=tag)[0]
    parts = path.split("/")
    assert parts[:2] == ["", "x"]
    assert len(parts) == 4
    assert all(part not in ("", ".", "..") and len(part.encode()) <= 255 and "\0" not in part for part in parts[2:])


def test_several_long_values_make_a_name_that_a_disk_can_hold(tmp_path: Path) -> None:
    """Three values of 100 bytes in one name are more than 255: it is cut, and keeps its ending."""
    values = {"a": "a" * 300, "b": "b" * 300, "c": "ü" * 300}
    path = Path(made(f"{tmp_path}/{{a}}-{{b}}-{{c}}-{{@timestamp:%Y-%m-%d}}.ndjson.gz", [values])[0])
    path.touch()
    assert path.parent == tmp_path
    assert path.name.startswith("a" * 100 + "-" + "b" * 100)
    assert path.name.endswith("-2026-11-22.ndjson.gz")
