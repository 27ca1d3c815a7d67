"""Outputs send and answer with verdicts; each is one module, and the module name is the type in the configuration."""
