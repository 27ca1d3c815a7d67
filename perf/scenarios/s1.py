"""Forward to nowhere: what the way in and the serialising cost, with nothing to hold."""

from perf.scenario import Forward, Scenario, Target

SCENARIO = Scenario(
    title="forward → nowhere",
    load=Forward(),
    output="blackhole",
    targets=[Target("floors", at_most=1.5)],
    peers={"Fluentd 1.19.3": "3.9 floors", "Fluent Bit 5.1.1": "0.57"},
)
