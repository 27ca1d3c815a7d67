"""Dropping: what is taken out, and how it is counted."""

from mcp_ingest.context import Context
from mcp_ingest.event import Batch, Origin, Term
from mcp_ingest.stages.drop import Drop

ORIGIN = Origin("forward", "p" * 20, 0)


def batch(*records: dict[str, object]) -> Batch:
    return Batch.of(ORIGIN, "mcp", [0] * len(records), list(records), list(range(len(records))))


def test_counted_as_filtered() -> None:
    """What is taken out is counted as filtered, under the stage's name, and its neighbours keep their places."""
    stage = Drop(Drop.Config(when="a == 1"), Context(name="drop"))
    result = stage.apply(batch({"a": 1}, {"a": 2}, {}))
    assert (result.records, result.positions) == ([{"a": 2}, {}], [1, 2])
    assert result.outcome.removed == {("forward", Term.FILTERED, "drop"): 1}


def test_rule_names_it() -> None:
    """A rule of its own stands in the ledger in place of the stage's name."""
    stage = Drop(Drop.Config(when="a == 1", rule="ones"), Context(name="drop"))
    assert list(stage.apply(batch({"a": 1})).outcome.removed) == [("forward", Term.FILTERED, "ones")]


def test_nothing_to_take_out() -> None:
    """A batch of which nothing is taken out comes back as it is."""
    given = batch({"a": 2})
    result = Drop(Drop.Config(when="a == 1"), Context()).apply(given)
    assert result is given
    assert not result.outcome.removed


def test_bad_condition() -> None:
    """A condition that does not compile is a mistake of the setting `when`."""
    assert Drop.Config(when="a.b == 1").check() == ['when: column 1: write field("a.b") for the field `a.b`']
    assert Drop.Config(when="a == 1").check() == []
