"""Finding components, and the settings' own types."""

from __future__ import annotations

import pytest

from mcp_ingest.component import ByteSize, Duration, Input, find, names


@pytest.mark.parametrize(
    ("text", "expected"), [("17", 17), (17, 17), ("512KiB", 524288), ("1.5 GB", 1_500_000_000), ("8GiB", 2**33)]
)
def test_sizes(text: object, expected: int) -> None:
    """Sizes are numbers with units of powers of ten or two."""
    assert ByteSize.parse(text) == expected


@pytest.mark.parametrize(("text", "expected"), [("30", 30), (2.5, 2.5), ("500ms", 0.5), ("7d", 604800), ("2 h", 7200)])
def test_durations(text: object, expected: float) -> None:
    """Durations are seconds or a number with a unit."""
    assert Duration.parse(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "much", "5 parsecs", "-3s", "1h30m"])
def test_wrong_sizes_and_durations(text: str) -> None:
    """What is neither says which forms are taken."""
    with pytest.raises(ValueError, match="not a size"):
        ByteSize.parse(text)
    with pytest.raises(ValueError, match="not a duration"):
        Duration.parse(text)


def test_a_file_is_a_registration() -> None:
    """Every module of a kind is found by its name; private ones are none."""
    assert "tail" in names("input")
    assert not [name for name in names("stage") if name.startswith("_")]
    assert issubclass(find("input", "tail"), Input)


def test_an_unknown_name() -> None:
    """A name that no file has is a KeyError."""
    with pytest.raises(KeyError):
        find("stage", "no_such_stage")
