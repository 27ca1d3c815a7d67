"""Inputs own a socket or a file; each is one module, and the module name is the type in the configuration."""
