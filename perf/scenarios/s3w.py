"""The platform's whole pipeline."""

from perf.scenario import Forward, Scenario, Target

SCENARIO = Scenario(
    title="forward → all of `pipelines/mcp.yaml` → spool → bulk",
    load=Forward(),
    stages="pipelines/mcp.yaml",
    targets=[Target("floors", at_most=7.5)],
)
