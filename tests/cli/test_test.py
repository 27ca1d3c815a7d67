"""`mcp-ingest test`: tests of pipelines, and what it says of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mcp_ingest.cli import main

PIPELINE = """
pipelines:
  mcp:
    match: "mcp.**"
    stages:
      - parse_json: {field: message, on_error: keep}
  strict:
    match: strict
    stages: [parse_json]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "p.yaml").write_text(PIPELINE)
    return tmp_path


def _run(folder: Path, cases: str, *arguments: str) -> Result:
    (folder / "pipelines" / "p.test.yaml").write_text(cases)
    return CliRunner().invoke(main, ["test", *(arguments or ["pipelines/p.test.yaml"])])


def test_a_case_that_holds_passes(folder: Path) -> None:
    """Strings become messages, named fields are compared, null means absent, letters are found by a part."""
    result = _run(
        folder,
        """
- name: JSON in the message becomes fields
  given: ['{"a": 1, "b": {"c": 2}}', {message: '{"a": 2}', other: x}]
  expected: [{a: 1, b: {c: 2}, nothing: null}, {a: 2, other: x}]
- name: what is no JSON is a dead letter of the strict one
  tag: strict
  time: 2026-01-01T00:00:00Z
  given: "{broken"
  dead_letters: [JSON]
""",
    )
    assert result.exit_code == 0, result.output
    assert result.output.splitlines() == [
        "ok   pipelines/p.test.yaml: JSON in the message becomes fields",
        "ok   pipelines/p.test.yaml: what is no JSON is a dead letter of the strict one",
        "2 passed, 0 failed",
    ]


@pytest.mark.parametrize(
    ("case", "parts"),
    [
        ("{given: '{\"a\": 1}', expected: [{a: 2}]}", ["a", "- 2", "+ 1"]),
        ("{given: '{\"a\": 1}', expected: [{a: null}]}", ["- (absent)", "+ 1"]),
        ("{given: '{\"a\": 1}'}", ["expected 0 records, got 1"]),
        ("{given: '{', tag: strict, expected: []}", ["expected 0 dead letters, got 1"]),
        ("{given: '{', tag: strict, dead_letters: [teapot]}", ["does not contain 'teapot'"]),
        ("{given: x, tag: nobody}", ["no pipeline takes the tag 'nobody'"]),
        ("{given: '{\"a\": 1}', expected: [{}], metrics: {nobody_total: 1}}", ["metric nobody_total is not there"]),
    ],
)
def test_a_case_that_does_not_hold_says_the_difference(folder: Path, case: str, parts: list[str]) -> None:
    """Exit 1, and what was expected beside what came."""
    result = _run(folder, "- " + case.replace("{", "{name: n, ", 1))
    assert result.exit_code == 1, result.output
    assert result.output.startswith("FAIL pipelines/p.test.yaml: n")
    assert "0 passed, 1 failed" in result.output
    for part in parts:
        assert part in result.output


@pytest.mark.parametrize(
    ("cases", "problem"),
    [
        ("- {nme: x, given: y}\n", ":1:4: `nme` is no setting — did you mean `name`?"),
        ("- {name: x, given: 5}\n", ":1:20: given: an event is a record or a string"),
        ("- {name: x, given: y, time: tomorrow}\n", ":1:29: time: "),
        ("a: 1\n", "must be a list of tests"),
        ("- 5\n", "a test is a mapping"),
    ],
)
def test_a_wrong_test_file_ends_with_2(folder: Path, cases: str, problem: str) -> None:
    """Mistakes in a test file have their places, as those of a configuration."""
    result = _run(folder, cases)
    assert result.exit_code == 2, result.output
    assert problem in result.stderr


def test_without_files_those_beside_the_configuration_s_pipelines_are_run(folder: Path) -> None:
    """The pipelines that the configuration includes bring their tests with them."""
    (folder / "c.yaml").write_text("include: pipelines/p.yaml\ninputs: {forward: }\noutputs: {stdout: }\n")
    result = _run(folder, "- {name: n, given: '{\"a\": 1}', expected: [{a: 1}]}\n", "-c", "c.yaml")
    assert result.exit_code == 0, result.output
    assert "1 passed" in result.output


def test_without_any_test_it_does_not_say_that_all_is_well(folder: Path) -> None:
    """No tests found is exit 1."""
    result = CliRunner().invoke(main, ["test", "pipelines"])
    assert (result.exit_code, result.output) == (1, "there are no tests\n")
