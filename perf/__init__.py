"""The performance harness: every figure in the docs comes from a command in here."""
