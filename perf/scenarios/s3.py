"""The chain that the peers were measured with, acknowledged after the fsynced spool."""

from perf.scenario import Forward, Scenario, Target

SCENARIO = Scenario(
    title="forward → drop, enrich, redact, level, two metrics → spool → bulk",
    load=Forward(),
    stages="perf/pipelines/s3.yaml",
    targets=[Target("floors", at_most=5.0), Target("peak_rss_mb", at_most=150)],
)
