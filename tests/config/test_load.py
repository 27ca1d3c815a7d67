"""Whole configurations: what is taken, and every mistake at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_ingest.config.load import load, load_pipelines
from mcp_ingest.errors import ConfigError

GOOD = """
inputs:
  forward: {port: 0}
  other: {type: forward, port: "${PORT:-0}"}
pipelines:
  errors:
    match: "mcp.errors.**"
    stages: [parse_json, {parse_json: {on_error: keep}}, redact: {packs: [pci]}]
    outputs: stdout
  all:
    match: ["**"]
    stages:
      - normalize
      - redact:
outputs:
  stdout:
  again: {type: stdout}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _problems(folder: Path, text: str, **environment: str) -> list[str]:
    (folder / "c.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load("c.yaml", environment)
    return [problem.removeprefix("c.yaml:") for problem in caught.value.problems]


def test_a_whole_configuration(folder: Path) -> None:
    """Types default to names, stages to their defaults, outputs to all; repeated stages get numbers."""
    (folder / "c.yaml").write_text(GOOD)
    found = load("c.yaml", {})
    assert found.path == "c.yaml"
    assert {name: each.type for name, each in found.inputs.items()} == {"forward": "forward", "other": "forward"}
    assert list(found.outputs) == ["stdout", "again"]
    assert found.outputs["again"].type == "stdout"
    errors, everything = found.pipelines.values()
    assert errors.match == ("mcp.errors.**",)
    assert [stage.name for stage in errors.stages] == ["parse_json", "parse_json-2", "redact"]
    assert errors.stages[1].settings.on_error == "keep"
    assert errors.outputs == ("stdout",)
    assert everything.outputs == ("stdout", "again")
    assert str(everything.place) == "c.yaml:10:3"
    assert found.warnings == ()


def test_every_mistake_is_named_at_once(folder: Path) -> None:
    """Wrong sections, types, settings, names and references are all in one list, in the order of the file."""
    problems = _problems(
        folder,
        """
input: {}
inputs:
  forwrad:
  forward: {prot: 1, port: x}
pipelines:
  mcp:
    matches: "mcp.**"
    stages: [normalise, {drop: {wen: "x"}}]
    outputs: [elastic]
  "bad name": {match: "{a,b"}
outputs:
  stdout: []
workers: 400
http: {port: 99999}
""",
    )
    assert [problem.partition(": ")[0] for problem in problems] == [
        "2:1", "4:3", "5:13", "5:28", "7:3", "8:5", "9:14", "9:32", "9:33", "10:15", "11:3", "11:23", "13:11", "14:10",
        "15:14",
    ]  # fmt: skip
    text = "\n".join(problems)
    for part in ("`inputs`?", "`forward`?", "`port`?", "`match` is missing", "`match`?", "`normalize`?", "`when`?"):
        assert part in text
    assert "there is no output `elastic`" in text


@pytest.mark.parametrize(
    ("match", "problem"),
    [
        ('"**"', "15:3: pipeline `last` gets nothing: `first` before it takes every such tag"),
        ("a.b.c", "15:3: pipeline `last` gets nothing: `first` before it takes every such tag"),
        ("[a.b.c, x]", None),
        ("[a.b.c, c]", "15:3: pipeline `last` gets nothing: `first` and `second` before it takes every such tag"),
    ],
)
def test_an_unreachable_pipeline_is_a_mistake(folder: Path, match: str, problem: str | None) -> None:
    """A pipeline to which those before it leave no tag is refused; one that gets some is not."""
    first = '"**"' if match == '"**"' else '"a.**"'
    text = f"""
inputs:
  forward:
outputs:
  stdout:
pipelines:
  first:
    match: {first}
    stages: [redact]
  second:
    match: c
    stages: [redact]
    # a third one

  last:
    match: {match}
    stages: [redact]
"""
    if problem is None:
        (folder / "c.yaml").write_text(text)
        assert list(load("c.yaml", {}).pipelines) == ["first", "second", "last"]
    else:
        assert problem in _problems(folder, text)


def test_what_runs_but_should_not_is_warned_of(folder: Path) -> None:
    """A pipeline without `redact`, and tags that no pipeline takes."""
    (folder / "c.yaml").write_text("inputs: {forward: }\noutputs: {stdout: }\npipelines:\n  mcp: {match: mcp.**}\n")
    warnings = load("c.yaml", {}).warnings
    assert len(warnings) == 2
    assert "c.yaml:4:3: pipeline `mcp` has no `redact`" in warnings[0]
    assert "dead-lettered as unmatched" in warnings[1]


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}", "spool: {}\n"])
def test_an_empty_configuration_is_refused(folder: Path, text: str) -> None:
    """Without inputs, pipelines or outputs nothing can run."""
    problems = _problems(folder, text)
    assert [problem.partition("there are ")[2] for problem in problems] == ["no inputs", "no pipelines", "no outputs"]


@pytest.mark.parametrize(
    ("text", "problem"), [("- a\n", "1:1: must be a mapping of inputs"), ("a: [\n", "2:1: not YAML: ")]
)
def test_what_is_no_configuration_has_one_mistake(folder: Path, text: str, problem: str) -> None:
    """A file that is something else is told so, and nothing about inputs that are missing."""
    (found,) = _problems(folder, text)
    assert found.startswith(problem)


def test_a_file_that_is_not_there_is_said_so(folder: Path) -> None:
    """A path that was given must exist."""
    with pytest.raises(ConfigError, match=r"nowhere\.yaml:1:1: cannot be read: No such file"):
        load("nowhere.yaml", {})


@pytest.mark.parametrize(
    ("environment", "name", "outputs"),
    [
        ({}, "built-in (store)", ["store"]),
        ({"ELASTICSEARCH_URL": "http://x:9200"}, "built-in (elasticsearch)", ["elasticsearch"]),
    ],
)
def test_without_a_file_the_built_in_one_is_taken(
    folder: Path, environment: dict[str, str], name: str, outputs: list[str]
) -> None:
    """The embedded store is the output, or Elasticsearch where its address is known."""
    found = load(None, environment)
    assert found.path == name
    assert list(found.outputs) == outputs
    assert found.inputs["forward"].settings.port == 24224
    assert found.http.host == "127.0.0.1"
    assert found.warnings == ()


def test_the_built_in_one_takes_its_values_from_the_environment(folder: Path) -> None:
    """Credentials, the data folder and the address of the pages come from variables; empty ones count as unset."""
    environment = {
        "ELASTICSEARCH_URL": "https://x:9200",
        "ELASTICSEARCH_USERNAME": "elastic",
        "ELASTICSEARCH_PASSWORD": "secret",
        "ELASTICSEARCH_API_KEY": "",
        "MCP_INGEST_DATA": "/data",
        "MCP_INGEST_HTTP_HOST": "0.0.0.0",
    }
    found = load(None, environment)
    settings = found.outputs["elasticsearch"].settings
    assert (settings.username, settings.password, settings.api_key) == ("elastic", "secret", None)
    assert found.spool.directory == "/data/spool"
    assert found.http.host == "0.0.0.0"


def test_the_working_directory_s_file_is_taken_before_the_built_in_one(folder: Path) -> None:
    """`mcp-ingest.yaml` beside the user needs no `-c`."""
    (folder / "mcp-ingest.yaml").write_text(GOOD)
    assert load(None, {}).path == "mcp-ingest.yaml"


def test_pipelines_alone_need_no_inputs_and_outputs(folder: Path) -> None:
    """A file of pipelines can be loaded by itself, for its tests."""
    (folder / "p.yaml").write_text("pipelines: {a: {match: x, stages: [parse_json], outputs: [anything]}}\n")
    assert [stage.type for stage in load_pipelines("p.yaml", {})["a"].stages] == ["parse_json"]


@pytest.mark.parametrize("written", ["0", "-1", "1.5", "two", "true", "65", "[2]", "{a: 1}", '"08"'])
def test_a_wrong_number_of_workers(folder: Path, written: str) -> None:
    """Whatever is no whole number of processes is said to be none."""
    (folder / "mcp-ingest.yaml").write_text(f"{GOOD}workers: {written}\n")
    with pytest.raises(ConfigError, match="workers: must be a whole number from 1 to 64"):
        load()


@pytest.mark.parametrize(("written", "count"), [("1", 1), ("4", 4), ('"64"', 64), ("", 1), ("${N:-3}", 3)])
def test_workers(folder: Path, written: str, count: int) -> None:
    """One without a word, else as many as are asked for, by a variable, too."""
    (folder / "mcp-ingest.yaml").write_text(f"{GOOD}workers: {written}\n")
    assert load().workers == count
