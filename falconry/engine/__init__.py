"""Engines: what to build, how it is built, and where finished ones are kept."""
