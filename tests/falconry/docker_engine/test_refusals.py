"""What registries say: the words are those that users, distribution and the Docker engine wrote."""

import pytest

from falconry.docker_engine.registry_errors import TransientError, explain
from falconry.errors import format_error


@pytest.mark.parametrize(
    ("said", "problem", "remedy"),
    [
        # distribution, registry/api/errcode; docker push prints these.
        (
            "unauthorized: authentication required",
            "token is wrong or has expired",
            "OCIR_AUTH_TOKEN",
        ),
        ("unknown: Unauthorized", "token is wrong or has expired", "OCIR_USERNAME"),
        ("no basic auth credentials", "token is wrong or has expired", "docker login"),
        # oracle/docker-images, issue 2551
        (
            "denied: Anonymous users are only allowed read access on public repos",
            "the user name or the token is wrong",
            "OCIR_USERNAME",
        ),
        ("denied: requested access to the resource is denied", "may not push or pull", "policy"),
        ("name unknown: repository name not known to registry", "no such repository", "make it"),
        ("manifest unknown: manifest unknown", "no such image", "name and tag"),
        ("toomanyrequests: too many requests", "no more requests for now", "wait"),
        ("Repository quota exceeded: limit is 500", "no room left", "delete repositories"),
        (
            "Get https://10.0.0.1:5000/v2/: http: server gave HTTP response to HTTPS client",
            "plain HTTP",
            "insecure-registries",
        ),
        ("x509: certificate signed by unknown authority", "not trusted", "certs.d"),
        ("dial tcp: lookup iad.ocir.io: no such host", "cannot be reached", "network"),
        ("net/http: TLS handshake timeout", "cannot be reached", "network"),
        (
            "received unexpected HTTP status: 503 Service Unavailable",
            "the registry failed",
            "again",
        ),
    ],
)
def test_each_refusal_has_its_own_meaning_and_remedy(said, problem, remedy):
    told = format_error(explain("iad.ocir.io/ns/a", said))
    assert told.startswith("iad.ocir.io/ns/a: ")
    assert problem in told
    assert remedy in told
    assert "\n" not in told


@pytest.mark.parametrize(
    ("said", "passes"),
    [
        ("dial tcp 127.0.0.1:5000: connect: connection refused", True),
        ("received unexpected HTTP status: 500 Internal Server Error", True),
        ("toomanyrequests", True),
        ("unauthorized: authentication required", False),
        ("denied: requested access to the resource is denied", False),
        ("quota exceeded", False),
    ],
)
def test_only_what_may_pass_by_itself_is_tried_again(said, passes):
    assert isinstance(explain("a", said), TransientError) is passes


def test_a_password_in_a_url_is_not_told():
    assert "s3cret" not in str(explain("a", "Get https://jane:s3cret@registry.test/v2/: refused"))
