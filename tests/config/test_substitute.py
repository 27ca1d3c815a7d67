"""Variables in strings."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_ingest.component import FromFile
from mcp_ingest.config.load import load
from mcp_ingest.config.substitute import Variables

VARIABLES = Variables({"NAME": "value", "EMPTY": "", "TRICK": "${NAME}: {a: 1}"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${NAME}", "value"),
        ("a ${NAME} b ${NAME}", "a value b value"),
        ("${MISSING:-}", ""),
        ("${MISSING:-http://localhost:9200}", "http://localhost:9200"),
        ("${EMPTY:-default}", "default"),
        ("${EMPTY}", ""),
        ("$${NAME}", "${NAME}"),
        ("$NAME and $5", "$NAME and $5"),
        ("${TRICK}", "${NAME}: {a: 1}"),
        ("${file:/nowhere:-default}", "default"),
        ("mcp-logs-{@timestamp:%Y}", "mcp-logs-{@timestamp:%Y}"),
    ],
)
def test_variables_are_put_in(text: str, expected: str) -> None:
    """Each form gives its value, once and without looking into it again."""
    assert VARIABLES.put_into(text) == (expected, [])


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("${MISSING}", "the environment has no MISSING"),
        ("${NAME", "without its `}`"),
        ("${not a name}", "is neither"),
        ("${file:/nowhere}", "cannot read /nowhere: No such file"),
    ],
)
def test_what_cannot_be_put_in_is_a_sentence(text: str, part: str) -> None:
    """A variable that is missing, malformed or unreadable is reported."""
    (problem,) = VARIABLES.put_into(text)[1]
    assert part in problem


def test_a_secret_comes_from_a_file_without_its_line_end(tmp_path: Path) -> None:
    """The content of a secret's file is its value, but for the last line end."""
    (tmp_path / "secret").write_text("pass word\n")
    assert VARIABLES.put_into(f"${{file:{tmp_path}/secret}}") == ("pass word", [])


def test_a_file_that_is_no_text_is_reported(tmp_path: Path) -> None:
    """A binary file is refused with a reason."""
    (tmp_path / "secret").write_bytes(b"\xff\xfe")
    assert "not UTF-8" in VARIABLES.put_into(f"${{file:{tmp_path}/secret}}")[1][0]


def test_what_came_from_a_file_can_be_read_again(tmp_path: Path) -> None:
    """The value as it was loaded, the file as it is now; one that is gone or empty for a moment changes nothing."""
    file = tmp_path / "password"
    file.write_text("hunter-1\n")
    value, _ = Variables({"USER": "bob"}).put_into(f"${{USER}}:${{file:{file}}}")
    assert isinstance(value, FromFile)
    assert (value, value.files) == ("bob:hunter-1", (str(file),))
    file.write_text("hunter-2\n")
    assert value.now() == "bob:hunter-2"
    file.unlink()
    assert value.now() == "bob:hunter-2"
    assert value == "bob:hunter-1"
    assert "hunter" not in repr(value)
    assert type(Variables({"USER": "bob"}).put_into("${USER}")[0]) is str


def test_a_setting_from_a_file_stays_one_through_loading(tmp_path: Path) -> None:
    """Strings keep their file, also in a list; other types are what they always were."""
    (tmp_path / "secret").write_text("hunter-1")
    (tmp_path / "number").write_text("7")
    text = f"""
inputs: {{forward: {{}}}}
pipelines: {{all: {{match: "**"}}}}
outputs:
  elasticsearch:
    hosts: ["https://bob:${{file:{tmp_path}/secret}}@es:9200"]
    api_key: "${{file:{tmp_path}/secret}}"
    concurrency: "${{file:{tmp_path}/number}}"
"""
    (tmp_path / "c.yaml").write_text(text)
    settings = load(str(tmp_path / "c.yaml"), {}).outputs["elasticsearch"].settings
    assert isinstance(settings.api_key, FromFile)
    assert isinstance(settings.hosts[0], FromFile)
    assert settings.concurrency == 7
    assert "hunter" not in repr(settings)
