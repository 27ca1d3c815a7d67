"""How old an event is when Elasticsearch has it, at a steady rate and with the defaults, durable in between."""

from perf.scenario import Scenario, Steady, Target

SCENARIO = Scenario(
    title="latency at a steady 5,000 events/s, with the defaults, through S3's stages",
    load=Steady(),
    stages="perf/pipelines/s3.yaml",
    targets=[Target("p50_ms", at_most=10), Target("p99_ms", at_most=100)],
    peers={"Fluentd 1.19.3": "2.8 s and 60.6 s", "Fluent Bit 5.1.1": "0.53 s and 1.02 s"},
)
