"""What the measuring commands say of a wrong argument."""

from __future__ import annotations

import subprocess
import sys

import pytest

from perf.scenario import ROOT


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("perf --only S99", "there is no scenario 'S99'; there are S1, S2, S3"),
        ("perf.profile --only S99", "there is no scenario 'S99'; there are S1, S2, S3"),
        ("perf --runs 0", "'0' is no number from 1 on"),
        ("perf --events many", "'many' is no number from 1 on"),
        ("perf.steps --runs -3", "'-3' is no number from 1 on"),
        ("perf.loadgen --port 1 --events 10 --chunk 0", "'0' is no number from 1 on"),
        ("perf.sink --refuse 2", "'2' is no share from 0 to 1"),
        ("perf.sink --refuse nan", "'nan' is no share from 0 to 1"),
    ],
)
def test_a_wrong_argument_is_named(command: str, said: str) -> None:
    """The command ends with 2 before it measures or writes anything, and says what is wrong."""
    made = subprocess.run([sys.executable, "-m", *command.split()], cwd=ROOT, capture_output=True, text=True)
    assert (made.returncode, made.stdout) == (2, "")
    assert said in made.stderr
