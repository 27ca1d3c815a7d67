"""Commands of this machine that make what a fault needs, and the one error that says why there is none."""

from __future__ import annotations

import subprocess

_SECONDS = 30


class UnavailableError(Exception):
    """Something that a fault needs cannot be had here; the sentence says why."""


def command(*line: str) -> None:
    """Run it to its end; UnavailableError, with what it said, if it fails."""
    try:
        subprocess.run(line, check=True, capture_output=True, text=True, timeout=_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", "") or error
        raise UnavailableError(f"{' '.join(line)}: {said}".strip()) from error
