"""The machine and the versions that figures were measured with: without them a figure says nothing."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("msgspec", "orjson", "msgpack", "uvloop", "isal", "google-re2", "aiohttp", "tantivy")
_FSYNCS = 40


def describe(folder: Path, repository: Path) -> dict[str, str]:
    """What a reader must know of machine, disk and versions; `folder` is where the spools are."""
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{_memory_gb():.1f} GB",
        "system": f"{platform.system()} {platform.release()}",
        "disk": f"{_file_system(folder)}, writing and fsyncing 4 KiB takes {fsync_seconds(folder) * 1e3:.2f} ms",
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "Python": platform.python_version(),
        "packages": ", ".join(f"{name} {found}" for name in _PACKAGES if (found := _version(name))),
        "commit": _commit(repository),
        "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def _file_system(folder: Path) -> str:
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    there = folder.resolve()
    fitting = [fields for fields in mounts if there.is_relative_to(fields[1])]
    return max(fitting, key=lambda fields: len(fields[1]))[2] if fitting else "unknown file system"


def fsync_seconds(folder: Path) -> float:
    """The median of what it takes to append 4 KiB to a file and fsync it."""
    taken = []
    with tempfile.NamedTemporaryFile(dir=folder, buffering=0) as file:
        for _ in range(_FSYNCS):
            began = time.perf_counter()
            file.write(b"x" * 4096)
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit(repository: Path) -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10"]
    try:
        done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "unknown"
    return done.stdout.strip() or "unknown"
