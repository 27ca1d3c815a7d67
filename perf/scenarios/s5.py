"""How old an event is when Elasticsearch has it, at a steady rate and with the defaults, durable in between."""

from perf.scenario import Scenario, Steady, Target

SCENARIO = Scenario(
    title="latency at a steady 5,000 events/s, with the defaults, through S3's stages",
    load=Steady(),
    stages="perf/pipelines/s3.yaml",
    targets=[Target("p50_ms", at_most=10), Target("p99_ms", at_most=100)],
)
