"""Faults that must cost nothing, and damage that must be bounded and told."""
