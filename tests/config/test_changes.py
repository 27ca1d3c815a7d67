"""What a new configuration changes, and what a running daemon cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from mcp_ingest.config.changes import Changes, Difference, compare, refusals
from mcp_ingest.config.load import load
from mcp_ingest.config.model import Configuration

_BASE: dict[str, Any] = {
    "inputs": {"forward": {"port": 1}, "files": {"type": "tail", "paths": ["/x"]}},
    "pipelines": {"a": {"match": "a", "stages": ["redact", {"drop": {"when": "x == 1"}}]}, "b": {"match": "b"}},
    "outputs": {"stdout": {}, "archive": {"type": "file", "path": "/y"}},
}


def _load(directory: Path, head: str = "", **changes: Any) -> Configuration:
    path = directory / "c.yaml"
    path.write_text(head + yaml.safe_dump({**_BASE, **changes}, sort_keys=False))
    return load(str(path))


def test_places_change_nothing(tmp_path: Path) -> None:
    """The same settings further down in the file are the same."""
    changes = compare(_load(tmp_path), _load(tmp_path, head="# a line more\n\n"))
    assert changes.nothing
    assert changes.inputs.kept == ("forward", "files")


@pytest.mark.parametrize(
    ("section", "value", "expected"),
    [
        ("inputs", {"forward": {"port": 2}}, Difference((), ("forward",), ("files",), ())),
        (
            "inputs",
            {**_BASE["inputs"], "more": {"type": "forward"}},
            Difference(("more",), (), (), ("forward", "files")),
        ),
        ("inputs", {**_BASE["inputs"], "files": {"type": "forward"}}, Difference((), ("files",), (), ("forward",))),
        (
            "outputs",
            {**_BASE["outputs"], "stdout": {"type": "blackhole"}},
            Difference((), ("stdout",), (), ("archive",)),
        ),
        ("pipelines", {"a": {"match": "c"}, "b": {"match": "b"}}, Difference((), ("a",), (), ("b",))),
        (
            "pipelines",
            {"a": _BASE["pipelines"]["a"], "b": {"match": "b", "outputs": ["stdout"]}},
            Difference((), ("b",), (), ("a",)),
        ),
        (
            "pipelines",
            {"a": {"match": "a", "stages": ["redact", {"drop": {"when": "x == 2"}}]}, "b": {"match": "b"}},
            Difference((), ("a",), (), ("b",)),
        ),
    ],
)
def test_what_changed_is_named(tmp_path: Path, section: str, value: Any, expected: Difference) -> None:
    """By kind and name; all else is kept."""
    changes = compare(_load(tmp_path), _load(tmp_path, **{section: value}))
    assert changes.by_kind()[section] == expected
    assert not changes.nothing


def test_the_order_of_pipelines_is_a_setting(tmp_path: Path) -> None:
    """It decides which one takes an event."""
    turned = dict(reversed(_BASE["pipelines"].items()))
    changes = compare(_load(tmp_path), _load(tmp_path, pipelines=turned))
    assert changes.settings == ("the order of the pipelines",)
    assert changes.pipelines.kept == ("b", "a")


def test_other_settings_are_named_with_their_section(tmp_path: Path) -> None:
    """Those of spool, http and log, and `reload_on_change`."""
    changed = _load(tmp_path, spool={"max_bytes": "1GiB"}, http={"port": 1}, reload_on_change=True)
    changes = compare(_load(tmp_path), changed)
    assert changes.settings == ("spool.max_bytes", "http.port", "reload_on_change")
    assert refusals(_load(tmp_path), changed) == []


def test_what_only_a_new_start_can_change_is_refused_by_name(tmp_path: Path) -> None:
    """The spool's folder and ballast, and where the log goes."""
    changed = _load(tmp_path, spool={"directory": "/z", "ballast_bytes": 1}, log={"file": "/l", "level": "debug"})
    sentences = refusals(_load(tmp_path), changed)
    assert [sentence.partition(":")[0] for sentence in sentences] == [
        "spool.directory", "spool.ballast_bytes", "log.file"
    ]  # fmt: skip
    assert "from mcp-ingest-data/spool to /z" in sentences[0]


def test_another_way_to_write_a_path_is_no_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative or absolute, or over a link: the same folder may be named otherwise."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    old = _load(tmp_path, spool={"directory": "spool"})
    for name in (str(tmp_path / "spool"), "./spool", "link/spool"):
        assert refusals(old, _load(tmp_path, spool={"directory": name})) == []


def test_nothing_is_nothing() -> None:
    """Two empty configurations do not differ."""
    assert compare(Configuration(), Configuration()) == Changes(Difference(), Difference(), Difference())
