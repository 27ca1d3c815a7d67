"""The package that the image and `pip install .` install."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mcp_ingest import __version__
from tests.docker.dockerfile import ROOT
from tests.integration.servers import missing

pytestmark = pytest.mark.registry


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    if done.returncode and "after connection broken by" in done.stderr:
        missing(f"the package registry cannot be reached: {done.stderr[-500:]}")
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this checkout as pip builds it."""
    folder = tmp_path_factory.mktemp("wheel")
    _pip("wheel", str(ROOT), "--no-deps", "--wheel-dir", str(folder))
    (found,) = folder.glob("*.whl")
    return found


def test_everything_of_the_package_is_in_the_wheel(wheel: Path) -> None:
    """Every file of the package is in it, pipelines and built-in configurations included, and nothing else is."""
    files = [path for path in (ROOT / "mcp_ingest").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == {path.relative_to(ROOT).as_posix() for path in files}
    assert {"mcp_ingest/assets/pipelines/mcp.yaml", "mcp_ingest/assets/builtin/store.yaml"} <= packed


def test_a_fresh_installation_works(wheel: Path, tmp_path: Path) -> None:
    """In an environment of its own, with what it depends on and no checkout, the command finds all that it needs."""
    home = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    _pip("--python", str(home / "bin" / "python"), "install", "--no-compile", str(wheel))

    def said(*arguments: str) -> str:
        command = [str(home / "bin" / "mcp-ingest"), *arguments]
        done = subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert said("--version") == f"mcp-ingest {__version__}\n"
    assert "built-in (store)" in said("check")
