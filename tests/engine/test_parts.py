"""The parts of a configuration: what is unchanged is the same object."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mcp_ingest.component import Output
from mcp_ingest.config.load import load
from mcp_ingest.config.model import Configuration
from mcp_ingest.context import Context
from mcp_ingest.engine.parts import Parts, build_parts
from mcp_ingest.errors import ConfigError, IngestError
from mcp_ingest.metrics import Metrics
from mcp_ingest.outputs.blackhole import Blackhole

Build = Callable[..., Parts]


def _configuration(directory: Path, **changes: Any) -> Configuration:
    path = directory / "c.yaml"
    stages: list[Any] = ["redact", {"drop": {"when": "a == 1"}}, {"drop": {"when": "b == 1"}}]
    config = {
        "inputs": {"forward": {"port": 0}},
        "pipelines": {"p": {"match": "p", "stages": stages}, "q": {"match": "q", "stages": ["redact"]}},
        "outputs": {"hole": {"type": "blackhole"}, "stdout": {}},
    }
    path.write_text(yaml.safe_dump({**config, **changes}, sort_keys=False))
    return load(str(path))


@pytest.fixture
def build(tmp_path: Path) -> Build:
    metrics = Metrics()

    def made(before: Parts | None = None, **changes: Any) -> Parts:
        config = _configuration(tmp_path, **changes)
        parts = build_parts(config, metrics, lambda name: Context(name, logger=logging.getLogger("test")), before)
        parts.metrics.publish()
        return parts

    return made


def test_what_is_unchanged_stays(build: Build) -> None:
    """Each stage and each output of an equal configuration is the object that was there."""
    before = build()
    after = build(before)
    assert after.outputs == before.outputs
    assert {key: built.stage for key, built in after.stages.items()} == {
        key: built.stage for key, built in before.stages.items()
    }
    assert [route.pipeline.stages for route in after.routes] == [route.pipeline.stages for route in before.routes]


def test_a_changed_stage_alone_is_new(build: Build) -> None:
    """Its neighbours keep their state; one that changed its place among its kind has another name, and is new."""
    before = build()
    stages: list[Any] = ["redact", {"drop": {"when": "a == 2"}}, {"drop": {"when": "b == 1"}}]
    after = build(before, pipelines={"p": {"match": "p.**", "stages": stages}, "q": {"match": "q"}})
    same = {key for key, built in after.stages.items() if before.stages[key].stage is built.stage}
    assert same == {("p", "redact"), ("p", "drop-2")}
    assert ("q", "redact") not in after.stages


def test_a_stage_of_another_pipeline_is_another(build: Build) -> None:
    """A pipeline under a new name begins without state."""
    before = build()
    after = build(before, pipelines={"other": {"match": "q", "stages": ["redact"]}})
    assert after.stages["other", "redact"].stage is not before.stages["q", "redact"].stage


def test_a_changed_output_alone_is_new(build: Build) -> None:
    """By settings or by type; the others keep their connections."""
    before = build()
    after = build(before, outputs={"hole": {"type": "stdout"}, "stdout": {}})
    assert after.outputs["hole"] is not before.outputs["hole"]
    assert after.outputs["stdout"] is before.outputs["stdout"]


_ONE = {"metrics": [{"name": "a_total", "help": "One."}]}
_TWO = {"metrics": [{"name": "a_total", "help": "Two."}]}


def _measured(*settings: Any) -> dict[str, Any]:
    return {
        f"p{n}": {"match": f"p{n}", "stages": [{"extract_metrics": each}, "redact"]} for n, each in enumerate(settings)
    }


def test_metrics_are_declared_anew(build: Build) -> None:
    """A metric that is declared as before goes on; another declaration takes its place; one that is no more, goes."""
    parts = build(pipelines=_measured(_ONE))
    parts.stages["p0", "extract_metrics"].series[0].add({(): 3})
    value = parts.metrics.registry.get_sample_value
    parts = build(parts, pipelines=_measured(_ONE, _ONE))
    assert value("a_total") == 3
    parts = build(parts, pipelines=_measured(_TWO))
    parts.stages["p0", "extract_metrics"].series[0].add({(): 1})
    assert value("a_total") == 1
    build(parts)
    assert value("a_total") is None


def test_two_declarations_of_one_metric_are_a_mistake(build: Build) -> None:
    """Also where one of the two stages is an old one; the sentence has the place of the other."""
    before = build(pipelines=_measured(_ONE))
    with pytest.raises(ConfigError, match=r"c\.yaml:\d+:\d+: a: it is declared elsewhere"):
        build(before, pipelines=_measured(_ONE, _TWO))
    assert before.metrics.registry.get_sample_value("a_total") is None


def test_a_class_that_raises_is_an_error_with_a_place(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it raises; what it says is masked."""

    def broken(self: Output, config: Any, context: Context) -> None:
        raise RuntimeError("no password=hunter22")

    monkeypatch.setattr(Blackhole, "__init__", broken)
    with pytest.raises(IngestError, match=r"c\.yaml:\d+:\d+: the output `hole` cannot be built: ") as caught:
        build()
    assert "hunter22" not in str(caught.value)
