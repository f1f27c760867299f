"""Custom endpoints and limits, against a real deployment of local_oci."""

from __future__ import annotations

from typing import Any

import oci
import pytest

from falconry.endpoint import Endpoint, RefusedError
from falconry.errors import EndpointError
from tests.local_oci.support import LocalCloud, Sdk


def test_a_suffix_reaches_the_container_under_its_own_path(endpoint: Endpoint) -> None:
    answer = endpoint.predict({"a": "Füchse"}, suffix="/other")
    assert answer["path"] == "/other"
    assert answer["body"] == {"a": "Füchse"}


def test_other_methods_reach_it_as_well(endpoint: Endpoint) -> None:
    assert endpoint.call("GET", "other?x=1") == {"path": "/other?x=1", "method": "GET"}


def test_a_method_that_is_not_open_is_explained(endpoint: Endpoint) -> None:
    with pytest.raises(RefusedError, match=r"405 .*custom endpoints"):
        endpoint.call("DELETE", "other")


def test_a_request_of_more_than_10_mb_is_explained(endpoint: Endpoint) -> None:
    with pytest.raises(RefusedError, match="10 MB") as told:
        endpoint.predict({"text": "x" * (10 * 1024 * 1024)})
    assert (told.value.status, told.value.code) == (413, "PayloadTooLarge")


def test_the_gateways_time_limit_is_explained(
    endpoint: Endpoint, scripted_cloud: LocalCloud
) -> None:
    scripted_cloud.fault(kind="timeout", path="*/predict/slow", seconds=0.3)
    with pytest.raises(RefusedError, match=r"500 InternalServerError.*60 s.*stream"):
        endpoint.predict({"seconds": 5}, suffix="slow")


def test_too_many_requests_are_explained(endpoint: Endpoint, scripted_cloud: LocalCloud) -> None:
    # Both texts: Oracle, model-dep-invoke-throttling.htm.
    for text, remedy in (
        ("LB bandwidth limit exceeded", "bandwidth_mbps"),
        ("Tenancy request-rate limit exceeded.", "150 requests a second"),
    ):
        scripted_cloud.fault(
            kind="status", path="*/predict", status=429, code="TooManyRequests", message=text
        )
        with pytest.raises(RefusedError, match=remedy) as told:
            endpoint.predict({})
        assert (told.value.status, told.value.code) == (429, "TooManyRequests")
        assert told.value.request_id


def test_a_wrong_key_is_explained(sdk: Sdk, deployment: Any) -> None:
    other = sdk.config["fingerprint"][::-1]
    signer = oci.signer.Signer(
        sdk.config["tenancy"], sdk.config["user"], other, sdk.config["key_file"]
    )
    endpoint = Endpoint(deployment.model_deployment_url, signer)
    with pytest.raises(RefusedError, match=r"401 NotAuthenticated.*clock"):
        endpoint.predict({})


def test_a_deployment_that_is_not_there_is_explained(sdk: Sdk, deployment: Any) -> None:
    endpoint = Endpoint(f"{deployment.model_deployment_url}x", sdk.signer)
    with pytest.raises(RefusedError, match=r"404 NotAuthorizedOrNotFound.*make status"):
        endpoint.predict({})


def test_a_text_that_is_none_is_one_sentence(endpoint: Endpoint) -> None:
    with pytest.raises(EndpointError, match="bytes that are not text"):
        endpoint.answer("\udcff", 1)
