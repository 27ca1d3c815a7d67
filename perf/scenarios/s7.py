"""A machine with very many log files of which few are written to."""

from perf.scenario import ManyFiles, Scenario

SCENARIO = Scenario(
    title="10,000 tailed files, ten of them growing by 1,000 lines/s in all",
    load=ManyFiles(),
    stages=["parse_json"],
    most_runs=3,
)
