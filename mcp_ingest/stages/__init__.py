"""Stages change a batch in one synchronous pass; each is one module, and the module name is the type in the configuration."""
