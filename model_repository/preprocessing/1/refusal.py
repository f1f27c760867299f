"""How a wrong request is refused; knows nothing of Triton."""


class RefusedError(Exception):
    """A request that is wrong; the message says which input and why."""
