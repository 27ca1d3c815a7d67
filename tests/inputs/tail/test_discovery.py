"""What rotation may have made of a name is found for all names of a directory at once."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from mcp_ingest.inputs.tail.discovery import _stems, rotated


def test_files_beside_a_name_are_those_that_rotation_made(tmp_path: Path) -> None:
    """A number or a date behind the name is a rotation's, also of several names at once; a directory is none."""
    for name in ("a.log", "a.log.1", "a.log-20261122", "a.log.1.2", "a.log.gz", "a.log.1.gz", "b.log.7", "xa.log.1"):
        (tmp_path / name).touch()
    (tmp_path / "a.log.2").mkdir()
    found = rotated(str(tmp_path), {"a.log", "a.log.1"})
    assert {name: sorted(Path(path).name for path, _ in beside) for name, beside in found.items()} == {
        "a.log": ["a.log-20261122", "a.log.1", "a.log.1.2"],
        "a.log.1": ["a.log.1.2"],
    }
    assert rotated(str(tmp_path / "nowhere"), {"a.log"}) == {}


@given(st.text("ab.1-_T2", max_size=12), st.data())
def test_the_stems_of_a_name_are_all_that_fit(name: str, data: st.DataObject) -> None:
    """A stem is one exactly if what follows it is a separator, a digit, and signs of dates."""
    cut = data.draw(st.integers(0, len(name)))
    stem = name[:cut]
    assert (stem in _stems(name)) == (re.fullmatch(re.escape(stem) + r"[.-]\d[\d.T_-]*", name) is not None)
