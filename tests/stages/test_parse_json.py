"""JSON in a text becomes fields; what is no JSON stays, what is broken is an error."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_ingest.stages.parse_json import _object, _shallow
from tests.stages._apply import batch, one, stage


def test_parsed_keys_win_and_the_text_goes() -> None:
    """Keys of the object replace those of the record, and the text's field is gone."""
    record = {"message": ' {"a": 1, "b": 2}', "a": 0, "c": 3}
    assert one("parse_json", record) == {"a": 1, "b": 2, "c": 3}


def test_metadata_of_both_is_put_together() -> None:
    """A map `metadata` of the object does not push out the one that is there."""
    record = {"message": '{"metadata": {"a": 1, "b": 1}}', "metadata": {"b": 0, "c": 0}}
    assert one("parse_json", record) == {"metadata": {"a": 1, "b": 1, "c": 0}}


@pytest.mark.parametrize("text", ["plain", "", "[1, 2]", "12", "   ", "null", "\n"])
def test_what_is_no_object_passes(text: str) -> None:
    """Plain text, arrays and numbers are left as they are."""
    assert one("parse_json", {"message": text}) == {"message": text}


@pytest.mark.parametrize("value", [None, 7, b"{}", {"a": 1}, [1]])
def test_what_is_no_text_passes(value: object) -> None:
    """A field that holds no text is left as it is."""
    assert one("parse_json", {"message": value}) == {"message": value}


def test_plain_text_can_be_an_error() -> None:
    """With `plain_text: error` a text that is no object is a dead letter."""
    result = stage("parse_json", plain_text="error").apply(batch([{"message": "x"}, {"message": "{}"}]))
    assert result.records == [{}]
    assert [letter.reason for letter in result.outcome.rejected] == ["message is no JSON object"]


def test_several_fields_are_looked_at() -> None:
    """Docker's `log` is parsed as `message` is."""
    assert one("parse_json", {"log": '{"a": 1}\n', "message": "x"}, field=["message", "log"]) == {
        "a": 1,
        "message": "x",
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": NaN, "b": Infinity, "c": -Infinity}', {"a": None, "b": None, "c": None}),
        ('{"a": 1e999}', {"a": None}),
        ('{"a": "x\ny"}', {"a": "x\ny"}),
        ('{"a": "\\ud800"}', {"a": "\ufffd"}),
        ('{"a": "\ud800"}', {"a": "\ufffd"}),
        ('{"a": "\\ud83d\\ude00", "b": NaN}', {"a": "😀", "b": None}),
        ('{"a": 1, "a": 2}', {"a": 2}),
        ('{"a": 123456789012345678901234567890}', {"a": 1.2345678901234568e29}),
        ('{"a": 18446744073709551615}', {"a": 18446744073709551615}),
    ],
)
def test_json_as_loggers_write_it(text: str, expected: object) -> None:
    """What is not quite JSON is understood, and what comes out can be serialised."""
    record = one("parse_json", {"message": text})
    assert record == expected
    orjson.dumps(record)


@pytest.mark.parametrize("text", ['{"a": 1', "{a: 1}", '{"a": 1} x', "{", '{"a": ' + "9" * 5000 + "}"])
def test_broken_json_leaves_the_event_as_it_was(text: str) -> None:
    """A broken object is an error; `keep` notes it and changes nothing else."""
    record = one("parse_json", {"message": text, "b": 2}, on_error="keep")
    assert record.pop("pipeline_error").startswith("parse_json: message begins like a JSON object but is none")
    assert record == {"message": text, "b": 2}


@pytest.mark.parametrize("depth", [101, 500, 2000, 200_000])
@pytest.mark.parametrize("inner", ["1", "NaN"])
def test_deep_nesting_is_an_error(depth: int, inner: str) -> None:
    """Nesting that serialisers refuse is refused here, at any depth, and the process lives."""
    text = '{"a":' * depth + inner + "}" * depth
    result = stage("parse_json").apply(batch([{"message": text}, {"message": "ok"}]))
    assert result.records == [{"message": "ok"}]
    assert len(result.outcome.rejected) == 1


def test_nesting_of_a_hundred_is_taken() -> None:
    """The limit itself is inside, and many braces side by side are not deep."""
    text = '{"a":' * 100 + "1" + "}" * 100
    assert "a" in one("parse_json", {"message": text})
    assert len(one("parse_json", {"message": '{"a": [' + ",".join(["{}"] * 500) + "]}"})["a"]) == 500


@given(st.text(max_size=40))
def test_any_text_is_parsed_kept_or_refused(tail: str) -> None:
    """Whatever follows a brace: one record or one dead letter, never an exception."""
    result = stage("parse_json").apply(batch([{"message": "{" + tail}]))
    assert len(result) + len(result.outcome.rejected) == 1


def test_broken_lines_that_together_are_json_are_each_broken() -> None:
    """No text is completed by its neighbour, whatever it leaves open."""
    texts = ['{"a": [{}', '{"b": 1}]}, {"c": 2}', '{"a": 1', '"b": 2}', '{"d": 3}']
    result = stage("parse_json").apply(batch([{"message": text} for text in texts]))
    assert result.records == [{"message": '"b": 2}'}, {"d": 3}]
    assert [letter.record["message"] for letter in result.outcome.rejected] == texts[:3]


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
_VALUES = st.recursive(_SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner))
_OBJECTS = st.dictionaries(st.text(max_size=3), _VALUES, max_size=5)


@given(_OBJECTS, st.booleans(), st.data())
def test_the_quick_way_never_says_something_else(value: object, ascii_only: bool, data: st.DataObject) -> None:
    """Of JSON, also with a piece replaced by another, it takes what the careful way takes and makes the same."""
    text = json.dumps(value, ensure_ascii=ascii_only)
    place = data.draw(st.integers(0, len(text)))
    piece = data.draw(st.text('0123456789.-+eE{}[]",: tfn\\u\n\ud800\x00', max_size=3))
    for changed in (text, text[:place] + piece + text[place + len(piece) :]):
        try:
            parsed = _shallow(changed)
        except ValueError:
            continue
        assert repr(parsed) == repr(_object(changed, "message"))


def test_what_is_deep_but_allowed_is_taken_among_shallow_ones() -> None:
    """Lines that the quick way refuses and the careful way takes stand where they stood."""
    texts = ['{"a": 1}', '{"a":' * 50 + "1" + "}" * 50, '{"a": 18446744073709551615}', '{"a": NaN}']
    result = stage("parse_json").apply(batch([{"message": text} for text in texts]))
    assert [record["a"] for record in result.records][::2] == [1, 18446744073709551615]
    assert result.records[3] == {"a": None}
    assert orjson.dumps(result.records[1]).decode() == texts[1]
