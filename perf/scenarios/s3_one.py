"""S3 with messages of one event each, as logging libraries without a buffer send them."""

from perf.scenario import Forward, Scenario, Target

SCENARIO = Scenario(
    title="S3, messages of one event each",
    load=Forward(mode="message", chunk=1, connections=4, events=200_000),
    stages="perf/pipelines/s3.yaml",
    targets=[Target("floors", at_most=6.5)],
    peers={"Fluentd 1.19.3": "180 floors", "Fluent Bit 5.1.1": "17.5"},
)
