"""Forward to Elasticsearch's bulk interface without stages, through the fsynced spool."""

from perf.scenario import Forward, Scenario, Target

SCENARIO = Scenario(
    title="forward → spool → bulk",
    load=Forward(),
    targets=[Target("floors", at_most=3.0)],
    peers={"Fluentd 1.19.3": "21 to 29 floors, in memory", "Fluent Bit 5.1.1": "3.0 to 4.2, in memory"},
)
