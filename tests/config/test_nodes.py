"""YAML as a tree with places."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_ingest.config.model import Place
from mcp_ingest.config.nodes import parse, plain
from mcp_ingest.config.substitute import Variables


def _read(text: str, **environment: str) -> tuple[Any, list[str]]:
    problems: list[str] = []

    def report(place: Place, sentence: str) -> None:
        problems.append(f"{place}: {sentence}")

    root = parse(text, "f", Variables(environment), report)
    return (None if root is None else plain(root)), problems


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-5", -5),
        ("0x10", 16),
        ("010", 10),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("true", True),
        ("no", "no"),
        ("on", "on"),
        ("12:30", "12:30"),
        ("2026-01-01", "2026-01-01"),
        ("~", None),
        ("'5'", "5"),
        ('"true"', "true"),
        ("1.2.3", "1.2.3"),
        ("1_000", "1_000"),
    ],
)
def test_plain_scalars_mean_what_yaml_1_2_says(text: str, value: object) -> None:
    """`no` is a string, `5` a number, and what is in quotes is a string whatever it looks like."""
    read, problems = _read(f"key: {text}")
    assert (read, problems) == ({"key": value}, [])
    assert type(read["key"]) is type(value)


def test_variables_never_become_structure() -> None:
    """A value with YAML in it stays one string."""
    assert _read('key: "${X}"', X="{a: 1}\nb: 2") == ({"key": "{a: 1}\nb: 2"}, [])


def test_a_plain_scalar_takes_variables_too() -> None:
    """Quotes are not needed around a variable."""
    assert _read("key: ${X}", X="5") == ({"key": "5"}, [])


def test_what_comes_to_nothing_is_left_out() -> None:
    """A setting or list item of which nothing is left after its variables counts as not written."""
    assert _read('{key: "${X:-}", list: ["${X:-}", a], empty: ""}') == ({"list": ["a"], "empty": ""}, [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3\n", "f:3:1: `a` stands twice, first at line 1"),
        ("a:\n\tb: 1\n", "f:2:1: not YAML: a tab; indent with spaces"),
        ("a: [1\nb: 2\n", "f:2:2: not YAML:"),
        ("a: !!python/object:os.system x\n", "f:1:4: the YAML tag"),
        ("a: !custom x\n", "f:1:4: the YAML tag"),
        ("? [a]\n: b\n", "f:1:3: a key must be a string"),
        ("a: &x {b: 1}\nc: {<<: *x}\n", "f:2:5: `<<`"),
        ("a: &x [*x]\n", "f:1:4: an alias inside of what it stands for"),
        ("a: \x07\n", "f:1:1: not YAML"),
        ("a: ${X}\n", "f:1:4: the environment has no X"),
        ("a: 1\n---\nb: 2\n", "f:2:1: not YAML"),
    ],
)
def test_what_is_wrong_has_its_place(text: str, expected: str) -> None:
    """Repeated keys, tabs, tags, endless aliases: each is a sentence with file, line and column."""
    problems = _read(text)[1]
    assert len(problems) == 1
    assert problems[0].startswith(expected)


def test_aliases_are_followed() -> None:
    """An alias gives the value of its anchor."""
    assert _read("a: &x {b: 1}\nc: *x\n") == ({"a": {"b": 1}, "c": {"b": 1}}, [])


def test_an_empty_file_is_nothing() -> None:
    """No text at all is no tree, and no mistake of the syntax."""
    assert _read("# only a comment\n") == (None, [])
