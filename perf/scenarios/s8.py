"""What each stage of the platform's pipeline costs the whole daemon, beside the same daemon without stages.

That is what an operator pays for a stage, noise of the whole daemon included; `perf/steps.py` measures the steps
alone, in one process and much more exactly.
"""

from perf.scenario import Forward, Scenario

SCENARIO = Scenario(
    title="forward → spool → bulk", load=Forward(events=200_000), stages="pipelines/mcp.yaml", one_by_one=True
)
