"""Injected faults, for tests of clients: what a real cloud does now and then, on demand."""
