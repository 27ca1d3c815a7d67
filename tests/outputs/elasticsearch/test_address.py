"""Names of indices: by time, by field, and always ones that Elasticsearch takes."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_ingest.event import Batch, Origin
from mcp_ingest.outputs.elasticsearch.address import addresser, index_pattern, template_problem

DAILY = "mcp-logs-{@timestamp:%Y.%m.%d}"
HOUR = 3600 * 10**9
DAY = 24 * HOUR


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


NOON = ns("2026-11-22T12:00:00")


def batch(times: list[int], records: list[dict[str, Any]] | None = None, received: int = NOON, tag: str = "t") -> Batch:
    records = records if records is not None else [{} for _ in times]
    return Batch.of(Origin("i", "p" * 20, received), tag, times, records, list(range(len(times))))


def names(template: str, *records: dict[str, Any], tag: str = "t") -> list[str]:
    return addresser(template).address(batch([NOON] * len(records), list(records), tag=tag))


def test_the_date_is_the_events_own_in_utc() -> None:
    """Events of two days in one batch go to two indices, to the nanosecond."""
    midnight = ns("2026-11-22T00:00:00")
    found = addresser(DAILY).address(batch([midnight - 1, midnight, midnight + DAY - 1]))
    assert found == ["mcp-logs-2026.11.21", "mcp-logs-2026.11.22", "mcp-logs-2026.11.22"]


def test_a_day_in_one_batch_is_one_shared_name() -> None:
    """The common case costs one name for the whole batch."""
    found = addresser(DAILY).address(batch([NOON + i for i in range(1000)]))
    assert found == ["mcp-logs-2026.11.22"] * 1000
    assert len({id(name) for name in found}) == 1


@pytest.mark.parametrize(
    ("time", "date"),
    [
        (0, "undated"),
        (-1, "undated"),
        (NOON - 30 * DAY, "2026.10.23"),
        (NOON - 30 * DAY - 1, "undated"),
        (NOON + DAY, "2026.11.23"),
        (NOON + DAY + 1, "undated"),
        (2**63 - 1, "undated"),
    ],
)
def test_a_date_far_from_the_receipt_is_undated(time: int, date: str) -> None:
    """More than 30 days before the receipt or more than one after it, or missing: `undated`, alone and in company."""
    assert addresser(DAILY).address(batch([time])) == [f"mcp-logs-{date}"]
    assert addresser(DAILY).address(batch([NOON, time])) == ["mcp-logs-2026.11.22", f"mcp-logs-{date}"]


def test_each_run_is_judged_by_its_own_receipt() -> None:
    """Merged batches keep the time of receipt of each source."""
    late = batch([NOON], received=NOON + 40 * DAY)
    assert addresser(DAILY).address(Batch.merge([batch([NOON]), late, batch([])])) == [
        "mcp-logs-2026.11.22",
        "mcp-logs-undated",
    ]


def test_an_hour_is_a_name_of_its_own() -> None:
    """A format with the hour makes a name for each hour."""
    found = addresser("m-{@timestamp:%Y.%m.%d-%H}").address(batch([NOON, NOON + HOUR - 1, NOON + HOUR]))
    assert found == ["m-2026.11.22-12", "m-2026.11.22-12", "m-2026.11.22-13"]


def test_fields_and_tag_are_part_of_the_name() -> None:
    """Top-level, dotted and nested fields, the tag, numbers; a missing or empty one is `unknown`."""
    template = "m-{service_name}-{metadata.region}-{tag}"
    found = names(
        template,
        {"service_name": "Model-Router", "metadata": {"region": "EU"}},
        {"service_name": 7},
        {"service_name": "", "metadata.region": "x"},
        {"service_name": {"a": 1}, "metadata": "x"},
        tag="A.b",
    )
    assert found == ["m-model-router-eu-a.b", "m-7-unknown-a.b", "m-unknown-x-a.b", "m-unknown-unknown-a.b"]


def test_fields_and_dates_go_together() -> None:
    """Each combination of values and day has its name."""
    records = [{"service_name": "a"}, {"service_name": "a"}, {"service_name": "b"}]
    found = addresser("m-{service_name}-{@timestamp:%Y}").address(batch([NOON, 0, NOON], records))
    assert found == ["m-a-2026", "m-a-undated", "m-b-2026"]


def test_forbidden_characters_are_replaced() -> None:
    """What Elasticsearch refuses in a name becomes an underscore."""
    assert names("m-{s}", {"s": 'A\\b/c*d?e"f<g>h|i j,k#l:m\x00n'}) == ["m-a_b_c_d_e_f_g_h_i_j_k_l_m_n"]


@given(st.text(max_size=400))
def test_any_value_makes_a_name_that_elasticsearch_takes(value: str) -> None:
    """Whatever a field holds, the rules for names are kept."""
    (name,) = names("m-{s}-{s}-{s}-{@timestamp:%Y.%m.%d}", {"s": value})
    assert len(name.encode()) <= 255
    assert not re.search(r'[\\/*?"<>| ,#:\x00-\x1f]', name)
    assert name.startswith("m-")
    assert name == name.lower()


def test_a_long_value_leaves_room_for_the_date() -> None:
    """A field's part is cut to 100 bytes, so that the date behind it stays."""
    assert names("m-{s}-{@timestamp:%Y}", {"s": "ü" * 300}) == ["m-" + "ü" * 50 + "-2026"]


def test_a_plain_name_is_the_same_for_all() -> None:
    """A data stream needs no time and no field."""
    assert addresser("logs-mcp-default").address(batch([0, NOON])) == ["logs-mcp-default"] * 2


def test_a_flood_of_values_does_not_grow_memory() -> None:
    """Made names are forgotten when there are too many of them."""
    made = addresser("m-{s}")
    for start in range(0, 60_000, 6000):
        made.address(batch([NOON] * 6000, [{"s": str(i)} for i in range(start, start + 6000)]))
    assert len(made._names) <= 16_000


@pytest.mark.parametrize(
    ("template", "pattern"),
    [(DAILY, "mcp-logs-*"), ("logs-mcp-default", "logs-mcp-default"), ("m-{a}{b}-{c}", "m-*-*")],
)
def test_the_pattern_fits_all_names(template: str, pattern: str) -> None:
    """Placeholders become `*`."""
    assert index_pattern(template) == pattern


@pytest.mark.parametrize(
    "template",
    [
        "",
        "{service_name}",
        "-m",
        "_m",
        ".m",
        "M-{a}",
        "m {a}",
        "m-{a",
        "m-a}",
        "m-{}",
        "m-{@timestamp}",
        "m-{@timestamp:%S}",
        "m-{@timestamp:%f}",
        "m#",
    ],
)
def test_a_template_that_cannot_work_is_refused(template: str) -> None:
    """The mistake is said before anything runs."""
    assert template_problem(template)


@pytest.mark.parametrize(
    "template", [DAILY, "logs-mcp-default", "m-{service_name}-{@timestamp:%Y.%m.%d-%H}", "m-{a.b}"]
)
def test_a_good_template_has_no_problem(template: str) -> None:
    """What the docs show is accepted."""
    assert template_problem(template) is None
