"""S3's chain with two workers, on two cores that the load generator and the sink share with them.

More connections than S3 has: the kernel gives each to one of the workers by chance.
"""

from perf.scenario import Forward, Scenario, Target

SCENARIO = Scenario(
    title="S3's chain, two workers",
    load=Forward(connections=16),
    stages="perf/pipelines/s3.yaml",
    workers=2,
    beside="S3",
    targets=[Target("cost_share", at_most=1.1), Target("rate_share", at_least=1.5)],
)
