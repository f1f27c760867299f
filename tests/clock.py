"""A clock for tests that would otherwise wait."""


class Clock:
    """A time that goes on by sleeping."""

    def __init__(self):
        self.time = 0.0

    def now(self):
        return self.time

    def sleep(self, seconds):
        self.time += seconds
