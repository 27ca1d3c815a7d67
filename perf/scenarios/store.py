"""The embedded store, as fast as it takes the platform's events: its memory is what matters."""

from perf.scenario import Forward, Scenario

SCENARIO = Scenario(
    title="forward → all of `pipelines/mcp.yaml` → spool → embedded store",
    load=Forward(events=1_000_000),
    stages="pipelines/mcp.yaml",
    output="store",
    most_runs=1,
)
