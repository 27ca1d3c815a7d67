"""Messages of one event each, without stages."""

from perf.scenario import Forward, Scenario, Target

SCENARIO = Scenario(
    title="messages of one event each → spool → bulk",
    load=Forward(mode="message", chunk=1, connections=4, events=200_000),
    targets=[Target("floors", at_most=4.5)],
    peers={"Fluentd 1.19.3": "33 floors, in memory", "Fluent Bit 5.1.1": "4.0, in memory"},
)
