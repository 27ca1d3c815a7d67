"""Started, listening, and nothing to do."""

from perf.scenario import Nothing, Scenario, Target

SCENARIO = Scenario(
    title="idle, with S3's configuration",
    load=Nothing(),
    stages="perf/pipelines/s3.yaml",
    targets=[Target("idle_rss_mb", at_most=60), Target("listening_seconds", at_most=0.5)],
    peers={"Fluentd 1.19.3": "89 MB, 1.4 s", "Fluent Bit 5.1.1": "10.5 MB, 0.01 s"},
)
