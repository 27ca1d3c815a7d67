"""What `store_small` costs without the store: the difference is the store's share."""

from perf.scenario import Scenario, Steady

SCENARIO = Scenario(
    title="300 events/s in messages of three → all of `pipelines/mcp.yaml` → nowhere",
    load=Steady(rate=300, chunk=3, connections=1),
    stages="pipelines/mcp.yaml",
    output="blackhole",
    most_runs=3,
)
