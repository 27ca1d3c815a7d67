"""The index template as a value; what it refuses and takes is tried on the real server (tests/integration)."""

from __future__ import annotations

from mcp_ingest.codecs.names import ECS_NAMES, FLAT_FIELDS
from mcp_ingest.outputs.elasticsearch.template import adapted, index_template


def test_every_flat_field_and_every_ecs_name_is_in_the_mapping() -> None:
    """Flat names are fields, ECS names are aliases of them."""
    fields = index_template("mcp-logs-*")["template"]["mappings"]["properties"]
    assert set(FLAT_FIELDS) <= set(fields)
    assert {name: fields[name]["path"] for name in ECS_NAMES} == ECS_NAMES
    assert all(path in fields for path in ECS_NAMES.values())


def test_settings_stand_in_the_template_only_where_given() -> None:
    """Shards and replicas are the server's own unless the configuration says otherwise."""
    assert "index.number_of_replicas" not in index_template("m-*")["template"]["settings"]
    settings = index_template("m-*", shards=3, replicas=0)["template"]["settings"]
    assert (settings["index.number_of_shards"], settings["index.number_of_replicas"]) == (3, 0)
    assert index_template("m", data_stream=True)["data_stream"] == {}


def test_what_a_server_does_not_know_is_taken_out() -> None:
    """Each refusal that names a part of the template changes that part and no other."""
    template = index_template("m-*")
    text = adapted(template, "The mapper type [match_only_text] declared on field [message] does not exist")
    assert text is not None
    assert text["template"]["mappings"]["properties"]["message"] == {"type": "text"}
    flat = adapted(text, "No handler for type [flattened] declared on field [metadata]")
    assert flat is not None
    assert flat["template"]["mappings"]["properties"]["metadata"] == {"type": "flat_object"}
    plain = adapted(flat, "Root mapping definition has unsupported parameters:  [subobjects : false]")
    assert plain is not None
    assert "subobjects" not in plain["template"]["mappings"]
    old = adapted(plain, "unknown setting [index.mapping.total_fields.ignore_dynamic_beyond_limit]")
    assert old is not None
    assert old["template"]["settings"].keys() == {"index.mapping.ignore_malformed", "index.refresh_interval"}
    assert template == index_template("m-*")


def test_a_refusal_for_another_reason_ends_it() -> None:
    """What names nothing of the template's is not answered with another try, nor the same refusal twice."""
    template = index_template("m-*")
    assert adapted(template, "index template [x] has index patterns [m-*] matching patterns from existing") is None
    once = adapted(template, "match_only_text")
    assert once is not None
    assert adapted(once, "match_only_text") is None
