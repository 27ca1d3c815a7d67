"""Arguments that several of the commands take: each says of a wrong value what is wrong with it."""

from __future__ import annotations

from argparse import ArgumentTypeError

from perf.scenario import Scenario, chosen, scenarios


def count(text: str) -> int:
    """A number from 1 on."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def share(text: str) -> float:
    """A part of a whole: from 0 to 1."""
    try:
        given = float(text)
    except ValueError:
        given = -1.0
    if not 0 <= given <= 1:
        raise ArgumentTypeError(f"{text!r} is no share from 0 to 1")
    return given


def named(text: str) -> list[Scenario]:
    """The scenarios of these names, with commas between; all without any."""
    try:
        return chosen([name for name in text.split(",") if name], scenarios())
    except KeyError as error:
        raise ArgumentTypeError(f"there is no scenario {error}; there are {', '.join(scenarios())}") from None
