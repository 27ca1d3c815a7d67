"""Forward to Elasticsearch's bulk interface without stages, through the fsynced spool."""

from perf.scenario import Forward, Scenario, Target

SCENARIO = Scenario(title="forward → spool → bulk", load=Forward(), targets=[Target("floors", at_most=3.0)])
