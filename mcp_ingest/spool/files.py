"""What stands beside the database in the spool's folder: the lock and the ballast."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from pathlib import Path

from mcp_ingest.errors import SpoolDiskError, SpoolError

DATABASE = "spool.db"
LOCK_PATIENCE = 2.0  # seconds: a `status` that looks into the file holds the lock for a moment


def make_directory(directory: Path) -> None:
    """Make the folder and its parents, each durably named in the one above it."""
    missing = [folder for folder in (directory, *directory.parents) if not folder.exists()]
    directory.mkdir(parents=True, exist_ok=True, mode=0o750)
    for folder in missing:
        sync_directory(folder.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in this folder durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


#: What a disk says that may be over by itself.
_PASSING = {
    errno.EROFS,
    errno.EIO,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.ESTALE,
    errno.ENODEV,
    errno.ENXIO,
    errno.ETIMEDOUT,
}


def cannot_use(error: OSError) -> SpoolError:
    """What to raise for this: a SpoolDiskError where it makes sense to try again."""
    kind = SpoolDiskError if error.errno in _PASSING else SpoolError
    return kind(f"the spool's folder cannot be used: {error}")


def probe(directory: Path) -> None:
    """See whether the folder can be written, without the database: as `cannot_use` says if not."""
    path = directory / "probe"
    try:
        path.touch()
        path.unlink()
    except OSError as error:
        raise cannot_use(error) from error


def free_bytes(directory: Path) -> int:
    """What the disk of this folder has free for us."""
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize


class Lock:
    """One process at a time; the kernel lets go of it when the process dies. The file says who holds it."""

    def __init__(self, directory: Path, name: str = "lock") -> None:
        self._path = directory / name
        self._descriptor = -1

    @property
    def descriptor(self) -> int:
        """The open file that holds it: who inherits it holds the lock, too."""
        return self._descriptor

    def holder(self) -> int | None:
        """The process that took it last; None where that cannot be read."""
        try:
            return int(self._path.read_text().strip())
        except (OSError, ValueError):
            return None

    def take(self, patience: float = LOCK_PATIENCE) -> None:
        """Hold it; SpoolError names the process that does already."""
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        deadline = time.monotonic() + patience
        while not self._try():
            if time.monotonic() >= deadline:
                holder = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip()
                os.close(self._descriptor)
                self._descriptor = -1
                raise SpoolError(f"the spool {self._path.parent} is in use by process {holder or 'unknown'}")
            time.sleep(0.02)
        with contextlib.suppress(OSError):  # on a full disk the file keeps the name of the one before
            os.pwrite(self._descriptor, f"{os.getpid():<20}\n".encode(), 0)

    def _try(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def give(self) -> None:
        """Let go of it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Ballast:
    """A file of real blocks that is given up when the disk is full, so that deleting still works."""

    def __init__(self, directory: Path, size: int) -> None:
        self._path = directory / "ballast"
        self.size = size

    @property
    def held(self) -> bool:
        """Whether the file is there in its full size."""
        try:
            return self._path.stat().st_size >= self.size
        except OSError:
            return False

    def take(self) -> bool:
        """Make the file if twice its size is free; whether it is there now."""
        if self.held:
            return True
        try:
            if self.free_bytes() < 2 * self.size:
                return False
            self._fill()
        except OSError:
            self.release()
            return False
        return True

    def _fill(self) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(descriptor, 0, self.size)
            else:  # macOS: zeros are blocks there, too
                for _ in range(0, self.size, 2**20):
                    os.write(descriptor, bytes(2**20))
        finally:
            os.close(descriptor)

    def release(self) -> None:
        """Give the blocks back to the disk."""
        with contextlib.suppress(OSError):
            self._path.unlink()

    def free_bytes(self) -> int:
        """What the disk has free for us."""
        return free_bytes(self._path.parent)
