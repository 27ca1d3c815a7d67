"""What `docker/Dockerfile` says, read for the tests."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "docker" / "Dockerfile"


def instructions(name: str) -> list[str]:
    """The arguments of every instruction of this name, in order, their continued lines joined."""
    text = re.sub(r"(?m)^#.*\n", "", DOCKERFILE.read_text())
    lines = text.replace("\\\n", " ").splitlines()
    return [line.removeprefix(name).strip() for line in lines if line.startswith(f"{name} ")]


def environment() -> dict[str, str]:
    """What ENV sets."""
    return dict(word.split("=", 1) for line in instructions("ENV") for word in line.split())


def exposed() -> set[str]:
    """The ports of EXPOSE, as `24224/tcp`."""
    return {port if "/" in port else f"{port}/tcp" for line in instructions("EXPOSE") for port in line.split()}


def health_check() -> list[str]:
    """The words of the health check's command."""
    words: list[str] = json.loads(instructions("HEALTHCHECK")[0].partition(" CMD ")[2])
    return words
