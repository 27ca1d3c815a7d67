"""A file of JSON lines, read from its head and parsed."""

from perf.scenario import Lines, Scenario, Target

SCENARIO = Scenario(
    title="tail of JSON lines → parse → spool → bulk",
    load=Lines(),
    stages=["parse_json"],
    targets=[Target("floors", at_most=4.0)],
)
