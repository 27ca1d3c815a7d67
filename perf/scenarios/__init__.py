"""The scenarios: one small declaration a file, found by its name."""
