"""How long falconry waits unless it is told otherwise; the tests of the rest wait less."""

from types import SimpleNamespace

import pytest

from falconry.cloud import work_requests
from falconry.cloud.work_requests import Operation, Watch, wait_for
from falconry.endpoint import endpoint
from falconry.endpoint.client import RetryBudget
from falconry.endpoint.endpoint import Endpoint
from falconry.endpoint.errors import RefusedError
from falconry.errors import CloudError

# Oracle, "Predict Endpoint": "A 60 second timeout for the /predict endpoint exists".
PREDICT_SECONDS = 60


class Clock:
    """Stands in for the module `time`: it goes on by sleeping."""

    def __init__(self):
        self.time = 0.0
        self.pauses = []

    def monotonic(self):
        return self.time

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.time += seconds


@pytest.fixture
def clock():
    return Clock()


def test_an_answer_is_waited_for_longer_than_the_service_works_on_it():
    assert RetryBudget().read > PREDICT_SECONDS


@pytest.fixture
def working_client():
    """A client of a cloud that is at work on an operation and does not end it."""
    request = SimpleNamespace(status="IN_PROGRESS", percent_complete=10)
    return SimpleNamespace(
        get_work_request=lambda _: SimpleNamespace(data=request),
        list_work_request_logs=lambda _: SimpleNamespace(data=[], has_next_page=False),
    )


def test_an_operation_is_looked_at_soon_at_first_and_then_every_five_seconds(
    monkeypatch, clock, working_client
):
    monkeypatch.setattr(work_requests, "time", clock)
    watch = Watch(600, lambda step, fraction: None)
    with pytest.raises(CloudError, match="after 10 minutes"):
        wait_for(working_client, Operation("ocid", "creation of the deployment"), watch)
    assert clock.pauses[0] == 0.05
    assert max(clock.pauses) == 5
    assert clock.time == pytest.approx(600)


def test_a_first_question_is_repeated_for_two_minutes_while_the_server_starts(monkeypatch, clock):
    monkeypatch.setattr(endpoint, "time", clock)

    def refuse(*_):
        raise RefusedError("http://nowhere", 503, "Service Unavailable", None, "")

    starting = Endpoint("http://nowhere", None)
    monkeypatch.setattr(starting, "answer", refuse)
    with pytest.raises(RefusedError):
        starting.smoke()
    assert clock.time == pytest.approx(120, abs=1)
    assert set(clock.pauses) == {0.2}
