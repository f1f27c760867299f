"""Engines: what to build, how, and where finished ones are kept."""
