"""The embedded store on a small installation: few events, in small messages."""

from perf.scenario import Scenario, Steady

SCENARIO = Scenario(
    title="300 events/s in messages of three → all of `pipelines/mcp.yaml` → embedded store",
    load=Steady(rate=300, chunk=3, connections=1),
    stages="pipelines/mcp.yaml",
    output="store",
    most_runs=3,
)
