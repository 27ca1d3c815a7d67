"""A file of JSON lines, read from its head and parsed."""

from perf.scenario import Lines, Scenario, Target

SCENARIO = Scenario(
    title="tail of JSON lines → parse → spool → bulk",
    load=Lines(),
    stages=["parse_json"],
    targets=[Target("floors", at_most=4.0)],
    peers={"Fluentd 1.19.3": "27 floors", "Fluent Bit 5.1.1": "4.9", "rsyslog 8.2302": "15"},
)
