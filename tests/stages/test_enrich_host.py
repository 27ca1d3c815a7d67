"""What an event lacks is added to its metadata, what it says stays."""

from __future__ import annotations

import socket

import pytest

from tests.stages._apply import batch, one, stage


def test_the_machine_names_itself() -> None:
    """Without a setting the host is the machine's own name."""
    assert one("enrich_host", {}) == {"metadata": {"host": socket.gethostname()}}


def test_nothing_is_overwritten() -> None:
    """What the event says of itself stays, even if it is null."""
    record = {"metadata": {"host": "app-1", "region": None}}
    assert one("enrich_host", record, host="h", region="r")["metadata"] == {"host": "app-1", "region": None}


@pytest.mark.parametrize(("metadata", "kept"), [("text", {"value": "text"}), ([1], {"value": [1]}), (None, {})])
def test_metadata_that_is_no_map(metadata: object, kept: dict[str, object]) -> None:
    """It becomes a map, and what it was is in it."""
    assert one("enrich_host", {"metadata": metadata}, host="h")["metadata"] == {"host": "h"} | kept


def test_records_do_not_share_their_metadata() -> None:
    """A later stage that changes one event's metadata changes no other's."""
    result = stage("enrich_host", host="h").apply(batch([{}, {}]))
    result.records[0]["metadata"]["x"] = 1
    assert result.records[1] == {"metadata": {"host": "h"}}


def test_applying_it_twice_changes_nothing() -> None:
    """A batch that is applied again after a failure comes out the same."""
    built = stage("enrich_host", host="h", environment="e", fields={"cluster": 1})
    once = built.apply(batch([{"metadata": "x"}])).records[0]
    expected = {"metadata": dict(once["metadata"])}
    assert built.apply(batch([once])).records == [expected]
