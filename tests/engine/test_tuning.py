"""What the process is set to before it works."""

from __future__ import annotations

import gc
import platform

import pytest

from mcp_ingest.engine.tuning import tune_allocator, tune_collector


def test_the_allocator_takes_the_thresholds() -> None:
    """On glibc the thresholds are accepted; elsewhere nothing is set and nothing breaks."""
    assert tune_allocator() is (platform.libc_ver()[0] == "glibc")


def test_the_collector_leaves_alone_what_is_there() -> None:
    """What exists is frozen, and collections are rare."""
    before = gc.get_threshold()
    try:
        tune_collector()
        assert gc.get_freeze_count() > 1000
        assert gc.get_threshold()[0] >= 10_000
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


@pytest.fixture(autouse=True)
def _unfrozen() -> None:
    gc.unfreeze()
