"""luqum is imported in silence."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import luqum


def test_the_first_import_says_nothing(tmp_path: Path) -> None:
    """Where luqum has no tables yet, they are made without a line on stderr and without a report beside it."""
    tables = shutil.ignore_patterns("parser.out", "parsetab.py", "__pycache__")
    fresh = shutil.copytree(Path(luqum.__file__).parent, tmp_path / "luqum", ignore=tables)
    code = "import luqum; import mcp_ingest.engine.search.lucene as l; l.parse('a', 0); print(luqum.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )  # fmt: skip
    assert Path(done.stdout.strip()).parent == fresh
    assert done.stderr == ""
    assert not (fresh / "parser.out").exists()
