"""What every test may ask for."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.servers import Elasticsearch, missing


@pytest.fixture(scope="session")
def elasticsearch() -> Iterator[Elasticsearch]:
    """One real Elasticsearch for the whole run, without security: give each test an index of its own."""
    server = Elasticsearch()
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 10 MB of its own, to be filled."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    mount = shutil.which("mount")
    command = [str(mount), "-t", "tmpfs", "-o", "size=10m", "tmpfs", str(mounted)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        missing("a small file system cannot be mounted (that takes root)")
    yield mounted
    subprocess.run(["umount", "-l", str(mounted)], check=True)
