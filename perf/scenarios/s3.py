"""The chain that the peers were measured with, acknowledged after the fsynced spool."""

from perf.scenario import Forward, Scenario, Target

SCENARIO = Scenario(
    title="forward → drop, enrich, redact, level, two metrics → spool → bulk",
    load=Forward(),
    stages="perf/pipelines/s3.yaml",
    targets=[Target("floors", at_most=5.0), Target("peak_rss_mb", at_most=150)],
    peers={"Fluentd 1.19.3": "123 to 136 floors, 213 MB", "Fluent Bit 5.1.1": "14.4 to 16, 80 MB"},
)
