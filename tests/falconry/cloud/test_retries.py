"""When a request is sent again, with the SDK's own exceptions."""

import io
import time
from email.utils import formatdate

import oci
import pytest
from oci._vendor.requests.exceptions import ConnectionError as ConnectionLostError

from falconry.cloud.catalog import Catalog
from falconry.cloud.retries import RetryPolicy, asked_pause
from falconry.cloud.session import Session
from falconry.errors import CloudError

QUICK = RetryPolicy(budget_s=0.5, first_pause_s=0.01, longest_pause_s=0.02)


def refusal(status, code="", headers=None):
    return oci.exceptions.ServiceError(status, code, headers or {}, "no")


class Calls:
    """Raises each of its errors once, and answers then."""

    def __init__(self, *errors):
        self.errors = list(errors)
        self.bodies = []

    def __call__(self, body=None):
        self.bodies.append(body.read() if body else None)
        if self.errors:
            raise self.errors.pop(0)
        return "done"


# Oracle, "API Errors", on which the SDK's documents say what may be sent again.
PASSING = [
    refusal(429, "TooManyRequests"),
    refusal(500, "InternalServerError"),
    refusal(503, "ServiceUnavailable"),
    refusal(504),
    refusal(409, "LockConflict"),
    ConnectionLostError("reset"),
    oci.exceptions.ConnectTimeout("late"),
]
LASTING = [
    refusal(400, "InvalidParameter"),
    refusal(401, "NotAuthenticated"),
    refusal(404, "NotAuthorizedOrNotFound"),
    refusal(409, "IncorrectState"),
    refusal(409, "InvalidatedRetryToken"),
    refusal(412, "NoEtagMatch"),
    refusal(413, "PayloadTooLarge"),
    refusal(501, "NotImplemented"),
    ValueError("a bug"),
]


@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_what_may_pass_is_tried_again(error):
    calls = Calls(error, error)
    assert QUICK.make_retrying_call(calls) == "done"
    assert len(calls.bodies) == 3


@pytest.mark.parametrize("error", LASTING, ids=repr)
def test_what_lasts_is_not_tried_again(error):
    calls = Calls(error)
    with pytest.raises(type(error)):
        QUICK.make_retrying_call(calls)
    assert len(calls.bodies) == 1


def test_the_whole_budget_is_used_and_no_more():
    calls = Calls(*[refusal(503)] * 1000)
    began = time.monotonic()
    with pytest.raises(oci.exceptions.ServiceError):
        QUICK.make_retrying_call(calls)
    assert 0.4 < time.monotonic() - began < 0.8
    assert len(calls.bodies) > 20


def test_the_pause_that_the_service_asks_for_is_made():
    calls = Calls(refusal(429, "TooManyRequests", {"retry-after": "0.3"}))
    began = time.monotonic()
    assert QUICK.make_retrying_call(calls) == "done"
    assert time.monotonic() - began >= 0.3


def test_a_pause_that_is_longer_than_the_budget_ends_it_at_once():
    calls = Calls(refusal(429, "TooManyRequests", {"retry-after": "60"}))
    began = time.monotonic()
    with pytest.raises(oci.exceptions.ServiceError):
        QUICK.make_retrying_call(calls)
    assert time.monotonic() - began < 0.2


def test_a_pause_may_be_given_as_a_date():
    pause = asked_pause(refusal(503, headers={"retry-after": formatdate(time.time() + 5)}))
    assert 3 < pause <= 5


@pytest.mark.parametrize("text", ["", "soon", "-"])
def test_a_pause_that_is_none_is_not_heeded(text):
    assert asked_pause(refusal(503, headers={"retry-after": text})) is None


def test_a_stream_is_sent_from_its_beginning_again():
    stream = io.BytesIO(b"head body")
    stream.seek(5)
    calls = Calls(refusal(503))
    assert QUICK.make_retrying_call(calls, body=stream) == "done"
    assert calls.bodies == [b"body", b"body"]


def test_a_stream_that_cannot_go_back_is_sent_once():
    class Pipe:
        def read(self):
            return b"x"

    calls = Calls(refusal(503))
    with pytest.raises(oci.exceptions.ServiceError):
        QUICK.make_retrying_call(calls, body=Pipe())
    assert len(calls.bodies) == 1


def test_trouble_with_one_service_stops_no_other(settings, cloud):
    session = Session(settings.cloud)
    cloud.fault(kind="status", operation="list_log_groups", status=400, times=30)
    logging = session.client(oci.logging.LoggingManagementClient)
    for _ in range(30):  # the SDK's breaker opens after ten
        with pytest.raises(oci.exceptions.ServiceError):
            logging.list_log_groups(session.compartment_id)
    cloud.fault(kind="status", operation="list_projects", status=500, times=6)
    assert Catalog(session).project()


def test_what_is_refused_for_good_is_one_clear_error(settings, cloud):
    cloud.fault(kind="status", operation="list_projects", status=404, times=1)
    with pytest.raises(CloudError, match="finding the project"):
        Catalog(Session(settings.cloud)).project()
