"""A small disk of the run's own, to be filled: a file with ext4 on a loop device. Linux, and root."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.chaos.machine import UnavailableError, command

_BYTES = 256 * 2**20
_SECONDS = 30
_STEP = 2**20


class Disk:
    """`folder` is where it is mounted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self) -> None:
        """Take all of its room, to the last block."""
        with self._filler.open("wb", buffering=0) as file:
            for step in (_STEP, 4096):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(step))

    def free(self) -> None:
        """Give it back."""
        self._filler.unlink(missing_ok=True)


@contextlib.contextmanager
def disk(directory: Path) -> Iterator[Disk]:
    """A disk mounted at `directory/disk` until the block ends; UnavailableError where none can be made."""
    if os.geteuid() != 0:
        raise UnavailableError("a file system of its own takes root")
    image, folder = directory / "disk.image", directory / "disk"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(_BYTES)
    command("mkfs.ext4", "-q", "-F", "-m", "0", str(image))
    command("mount", "-o", "loop", str(image), str(folder))
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False, timeout=_SECONDS)
        image.unlink(missing_ok=True)
