"""The only part that knows all kinds: it builds the graph, runs the pipelines and delivers."""
