"""The tables of names agree with each other."""

from __future__ import annotations

from mcp_ingest.codecs.names import ECS_NAMES, ELASTICSEARCH_OWN, FLAT_FIELDS, LOG_LEVELS, REQUIRED_FIELDS


def test_aliases_lead_to_flat_fields() -> None:
    """Each ECS name is dotted and stands for a field of the schema that an alias can have as its target."""
    for name, flat in ECS_NAMES.items():
        assert "." in name
        assert FLAT_FIELDS[flat] != "map"


def test_the_schema_uses_no_name_of_elasticsearch() -> None:
    """No field of ours is one that Elasticsearch refuses, and what is required is in the schema."""
    assert not ELASTICSEARCH_OWN & FLAT_FIELDS.keys()
    assert set(REQUIRED_FIELDS) <= FLAT_FIELDS.keys()
    assert len(set(LOG_LEVELS)) == 5
