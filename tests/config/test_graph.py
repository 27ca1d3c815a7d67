"""Components and pipelines out of their sections."""

from __future__ import annotations

import pytest

from mcp_ingest.config import graph
from mcp_ingest.config.graph import Graph
from mcp_ingest.config.model import PipelineConfig, Place
from mcp_ingest.config.nodes import Mapping, parse
from mcp_ingest.config.substitute import Variables


def _pipelines(text: str) -> tuple[dict[str, PipelineConfig], list[str]]:
    problems: list[str] = []

    def report(place: Place, sentence: str) -> None:
        problems.append(f"{place.line}:{place.column} {sentence}")

    node = parse(text, "f", Variables({}), report)
    assert isinstance(node, Mapping)
    return Graph(report).pipelines(node, ["store"]), problems


@pytest.mark.parametrize(
    ("pipeline", "problem"),
    [
        ("{stages: []}", "1:1 `match` is missing"),
        ("{match: [a, [b]]}", "1:16 `match` must be a string or a list of strings"),
        ("{match: a, stages: parse_json}", "1:23 `stages` must be a list"),
        ("{match: a, stages: [5]}", "1:24 a stage is a name"),
        ("{match: a, stages: [{parse_json: {}, normalize: {}}]}", "1:24 a stage has one name, here are `parse_json`"),
        ("{match: a, stages: [{parse_json: 5}]}", "1:37 the settings of `parse_json` must be a mapping"),
        (
            "{match: a, stages: [parse_jsn]}",
            "1:24 there is no stage of the type `parse_jsn` — did you mean `parse_json`?",
        ),
        ("{match: a, outputs: [stroe]}", "1:25 there is no output `stroe` — did you mean `store`?"),
        ("{match: a, outputs: [store, store]}", "1:32 the output `store` stands twice"),
        ("5", "1:4 the settings of `p` must be a mapping"),
        ("{match: a, stages: ['${X}']}", "1:24 the environment has no X"),
    ],
)
def test_a_mistake_in_a_pipeline_is_one_sentence(pipeline: str, problem: str) -> None:
    """Each has its place, and no other mistake follows from it."""
    problems = _pipelines(f"p: {pipeline}")[1]
    assert len(problems) == 1
    assert problems[0].startswith(problem)


def test_patterns_in_one_string_are_taken_apart() -> None:
    """Several patterns may stand in one string, as in Fluentd."""
    found, problems = _pipelines("p: {match: 'a.** b'}")
    assert (found["p"].match, found["p"].stages, problems) == (("a.**", "b"), (), [])


def test_what_is_there_is_not_looked_for_among_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only who names a type that is not there has all types listed, which takes a look at each installed package."""
    listed: list[str] = []

    def names(kind: str) -> list[str]:
        listed.append(kind)
        return ["parse_json"]

    monkeypatch.setattr(graph, "names", names)
    assert _pipelines("p: {match: a, stages: [parse_json]}")[1] == []
    assert listed == []
    assert len(_pipelines("p: {match: a, stages: [parse_jsn]}")[1]) == 1
    assert listed == ["stage"]
