"""A small disk of the run's own, to be filled: a file with ext4 on a loop device. Linux, and root."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.chaos.machine import UnavailableError, command

_BYTES = 256 * 2**20
_SECONDS = 30
_STEP = 2**20
_BUSY_SECONDS = 10.0
_SHUTDOWN, _NO_FLUSH = 0x8004587D, 2  # EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH: linux/ext4.h


class Disk:
    """The file `image`, mounted at `folder`."""

    def __init__(self, image: Path, folder: Path) -> None:
        self.folder = folder
        self._image = image
        self._filler = folder / "filler"

    def fill(self) -> None:
        """Take all of its room, to the last block."""
        with self._filler.open("wb", buffering=0) as file:
            for step in (_STEP, 4096):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(step))

    def free(self) -> None:
        """Give it back, for good: a power cut that follows would bring the file back, and the disk be full again."""
        with contextlib.suppress(OSError):
            self._filler.unlink(missing_ok=True)
            descriptor = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def cut_power(self) -> None:
        """From now on nothing reaches the disk any more: what was not synced is lost, and who writes gets an error."""
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _NO_FLUSH))
        finally:
            os.close(descriptor)

    def mount(self) -> None:
        """Put it in its place; after a power cut its journal is played back."""
        command("mount", "-o", "loop", str(self._image), str(self.folder))

    def unmount(self) -> None:
        """Take it out as soon as nobody uses it."""
        end = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                command("umount", str(self.folder))
            except UnavailableError:
                if time.monotonic() >= end:
                    raise
                time.sleep(0.05)
            else:
                return


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
    made = Disk(image, folder)
    made.mount()
    try:
        yield made
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False, timeout=_SECONDS)
        image.unlink(missing_ok=True)
