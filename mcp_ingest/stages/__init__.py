"""Stages change a batch in one synchronous pass; a module's name is the type in the configuration."""
