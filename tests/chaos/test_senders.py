"""Which chunk is sent next, over which connection."""

from __future__ import annotations

import pytest

from tests.chaos import senders
from tests.chaos.book import Book
from tests.chaos.senders import Chunk, Forward


def test_what_is_sent_twice_goes_over_two_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same chunk again is for any connection but the one that has it under way: that may be another worker's."""
    monkeypatch.setattr(senders, "_TWICE_SHARE", 1.0)
    forward = Forward(Book(), ("127.0.0.1", 9), 1.0, seed=1)
    one, other = dict[str, Chunk](), dict[str, Chunk]()
    (chunk,) = forward._take(one)
    assert forward.unacknowledged() == 1
    assert list(forward._take(one)) == []
    assert list(forward._take(other)) == [chunk]
    assert (forward.made, forward.sent_again, forward.unacknowledged()) == ([chunk], 1, 0)
