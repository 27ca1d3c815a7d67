"""Configurations of several files."""

from __future__ import annotations

from pathlib import Path

from mcp_ingest.config.files import Files
from mcp_ingest.config.model import Place
from mcp_ingest.config.nodes import Mapping


def _read(folder: Path, **texts: str) -> tuple[dict[str, list[str]], list[str]]:
    problems: list[str] = []

    def report(place: Place, sentence: str) -> None:
        problems.append(f"{Path(place.file).name}:{place.line}:{place.column}: {sentence}")

    (folder / "conf.d").mkdir()
    for name, text in texts.items():
        (folder / f"{name.replace('_', '/')}.yaml").write_text(text)
    files = Files({"PART": "a"}, report)
    files.read(folder / "main.yaml")
    named = {
        name: list(entry.node.entries) for name, entry in files.sections.items() if isinstance(entry.node, Mapping)
    }
    return named, problems


def test_included_files_stand_where_include_stands(tmp_path: Path) -> None:
    """What is included first comes first, files of one pattern by their names; tests are left out."""
    main = "pipelines: {first: }\ninclude: [conf.d/*.yaml]\n"
    named, problems = _read(
        tmp_path,
        main=main,
        **{"conf.d_b": "pipelines: {b: }\n", "conf.d_a": "pipelines: {a: }\n", "conf.d_a.test": "- name: x\n"},
    )
    assert (named, problems) == ({"pipelines": ["first", "a", "b"]}, [])


def test_a_name_stands_in_one_file_only(tmp_path: Path) -> None:
    """A component that two files name is a mistake with both places; so is a section of settings."""
    _, problems = _read(
        tmp_path,
        main="outputs:\n  store:\nspool: {}\ninclude: conf.d/a.yaml\n",
        **{"conf.d_a": "outputs: {store: }\nspool: {}\n"},
    )
    assert len(problems) == 2
    assert problems[0].startswith("a.yaml:1:11: `store` stands at ")
    assert problems[0].endswith("main.yaml:2:3 already")
    assert problems[1].startswith("a.yaml:2:1: `spool` stands at ")


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    """A path without `*` must exist, a pattern may find nothing."""
    _, problems = _read(tmp_path, main="include:\n  - nowhere.yaml\n  - conf.d/*.yaml\n  - 5\n")
    assert len(problems) == 2
    assert problems[0].startswith("main.yaml:2:5: there is no file")
    assert problems[1].startswith("main.yaml:4:5: `include` takes paths")


def test_files_that_include_each_other_are_read_once(tmp_path: Path) -> None:
    """A circle of includes ends."""
    named, problems = _read(
        tmp_path,
        main="include: conf.d/a.yaml\ninputs: {x: }\n",
        **{"conf.d_a": "include: ../main.yaml\ninputs: {y: }\n"},
    )
    assert (named, problems) == ({"inputs": ["y", "x"]}, [])


def test_paths_take_variables(tmp_path: Path) -> None:
    """`include` is a string like any other."""
    named, problems = _read(tmp_path, main="include: conf.d/${PART}.yaml\n", **{"conf.d_a": "inputs: {y: }\n"})
    assert (named, problems) == ({"inputs": ["y"]}, [])


def test_a_section_that_is_no_mapping_is_one_mistake(tmp_path: Path) -> None:
    """A list where names are expected is reported once, in whatever order the files come."""
    _, problems = _read(tmp_path, main="inputs: [forward]\ninclude: conf.d/a.yaml\n", **{"conf.d_a": "inputs: {y: }\n"})
    assert problems == ["main.yaml:1:9: `inputs` must be a mapping of names to settings"]
