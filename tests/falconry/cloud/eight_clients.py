"""Clients that ask a deployment all the time, while something is done to it."""

import contextlib
import threading
import time
from dataclasses import dataclass, field

from falconry.deployment.stage import endpoint_of
from falconry.errors import EndpointError

_CLIENTS = 8
# A tenancy has 150 requests a second, and these eight could ask for more.
_PAUSE_S = 0.06
_AFTERWARDS_S = 0.5


@dataclass(frozen=True)
class Told:
    """What the clients were answered, in the order of the answers, and what failed."""

    answers: list = field(default_factory=list)
    failures: list = field(default_factory=list)


@contextlib.contextmanager
def eight_clients(deployment, session):
    """Eight clients that ask until a moment after the body; gives what they were told."""
    told, over = Told(), threading.Event()

    def ask():
        endpoint = endpoint_of(deployment, session)
        while not over.is_set():
            try:
                told.answers.append(endpoint.answer("who?", 1))
            except EndpointError as failure:
                told.failures.append(str(failure))
            time.sleep(_PAUSE_S)

    clients = [threading.Thread(target=ask) for _ in range(_CLIENTS)]
    for client in clients:
        client.start()
    try:
        yield told
        time.sleep(_AFTERWARDS_S)
    finally:
        over.set()
        for client in clients:
            client.join()


def assert_took_over(told, old, new):
    """No request failed, and once the new model has answered the old one is asked no more."""
    assert told.failures == []
    assert told.answers[0] == old
    assert told.answers[-1] == new
    # What the other clients had asked before, one question each, may be answered late.
    assert told.answers[told.answers.index(new) :].count(old) < _CLIENTS
