"""Forward to nowhere: what the way in and the serialising cost, with nothing to hold."""

from perf.scenario import Forward, Scenario, Target

SCENARIO = Scenario(
    title="forward → nowhere",
    load=Forward(),
    output="blackhole",
    targets=[Target("floors", at_most=1.5)],
)
