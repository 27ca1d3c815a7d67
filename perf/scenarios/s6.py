"""A backlog: Elasticsearch is away while two million events come, then it comes back."""

from perf.scenario import Forward, Scenario, Target

SCENARIO = Scenario(
    title="drain of a backlog of two million events",
    load=Forward(events=2_000_000),
    backlog=True,
    beside="S2",
    most_runs=3,
    targets=[Target("drain_share", at_least=0.8), Target("peak_rss_mb", at_most=150)],
)
