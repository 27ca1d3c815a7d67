"""Tests of the elasticsearch output."""
