"""Inputs own a socket or a file; a module's name is the type in the configuration."""
