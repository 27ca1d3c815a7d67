"""The generated pages say what the code says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Annotated, Literal

import pytest
from msgspec import Meta

from mcp_ingest.component import ByteSize, Duration, names


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    path = Path(__file__).parents[2] / "docs" / "generate.py"
    spec = importlib.util.spec_from_file_location("docs_generate", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_page_is_stale(generate: ModuleType) -> None:
    """What stands in `docs` is what the code would write there; else run `python docs/generate.py`."""
    assert generate.stale() == []


def test_writing_brings_pages_up_to_date_and_removes_what_is_gone(generate: ModuleType, tmp_path: Path) -> None:
    """After writing nothing is stale, and the page of a component that is gone is gone."""
    gone = tmp_path / "components" / "stages" / "nobody.md"
    gone.parent.mkdir(parents=True)
    gone.write_text("old")
    changed = generate.write(tmp_path)
    assert "components/stages/nobody.md" in changed
    assert not gone.exists()
    assert generate.stale(tmp_path) == []
    assert generate.write(tmp_path) == []


def test_every_component_has_its_page(generate: ModuleType) -> None:
    """Each input, stage and output is documented, with a table of its settings."""
    pages = generate.pages()
    for kind, folder in generate.FOLDERS.items():
        for name in names(kind):
            page = pages[Path("components") / folder / f"{name}.md"]
            assert f"# `{name}`" in page
            assert "## Settings" in page


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (str | None, "string"),
        (list[str] | str, "list of string or string"),
        (dict[str, ByteSize], "mapping of string to size"),
        (Annotated[Duration, Meta(description="x")], "duration"),
        (Literal["a", "b"], "one of `a`, `b`"),
    ],
)
def test_types_are_named_as_in_yaml(generate: ModuleType, kind: object, text: str) -> None:
    """A setting's type is named in the words of who writes the file."""
    assert generate.type_text(kind) == text
