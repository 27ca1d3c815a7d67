"""Outputs send and answer with verdicts; a module's name is the type in the configuration."""
