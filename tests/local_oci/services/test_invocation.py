"""The gateway: where a call goes, what comes back, and when the gateway answers by itself."""

from __future__ import annotations

import http.client
import json
import socket
import time
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from local_oci.http.errors import ServiceError
from local_oci.services.invocation.forwarding import Throttle
from tests.local_oci.support import LocalCloud, Sdk, ds

MEBIBYTE = 1024 * 1024


def _endpoint(suffix: str, *methods: str) -> Any:
    return ds.InferenceHttpEndpoint(endpoint_uri_suffix=suffix, http_methods=list(methods))


# --- where a call goes ------------------------------------------------------------------------


def test_the_sdk_predicts(sdk: Sdk, echo: str) -> None:
    answer = json.loads(sdk.inference.predict(echo, '{"x": 1}').data)
    assert (answer["path"], answer["body"]) == ("/predict", '{"x": 1}')


def test_the_path_and_health_of_the_environment_are_used(sdk: Sdk) -> None:
    deployment = sdk.deploy(
        variables={
            "MODEL_DEPLOY_PREDICT_ENDPOINT": "/v2/models/ensemble/versions/1/generate",
            "MODEL_DEPLOY_HEALTH_ENDPOINT": "/v2/health/ready",
        }
    ).id
    assert sdk.post(deployment).json()["path"] == "/v2/models/ensemble/versions/1/generate"
    sdk.delete(deployment)


@pytest.mark.parametrize(
    "names", [("model_name", "model_version"), ("model-name", "model-version")]
)
def test_triton_is_called_by_the_headers_of_the_request(
    sdk: Sdk, triton: str, names: tuple[str, str]
) -> None:
    headers = dict(zip(names, ("densenet", "2"), strict=True))
    path = sdk.post(triton, headers=headers).json()["path"]
    assert path == "/v2/models/densenet/versions/2/infer"


def test_a_call_of_triton_without_its_headers_is_refused(sdk: Sdk, triton: str) -> None:
    response = sdk.post(triton)
    assert (response.status_code, response.json()["code"]) == (400, "MissingParameter")


@pytest.fixture(scope="module")
def triton(sdk: Sdk) -> str:
    return sdk.deploy(variables={"CONTAINER_TYPE": "TRITON"}).id


def test_a_custom_endpoint_is_reached_with_its_query(sdk: Sdk, echo: str) -> None:
    answer = sdk.post(echo, "/predict/v2/models/falcon/generate?a=1&b=%20").json()
    assert answer["path"] == "/v2/models/falcon/generate?a=1&b=%20"


def test_a_custom_endpoint_is_reached_with_its_methods_only(sdk: Sdk, echo: str) -> None:
    assert sdk.call("GET", echo, "/predict/items/7").json()["path"] == "/items/7"
    response = sdk.post(echo, "/predict/items/7")
    assert (response.status_code, response.json()["code"]) == (405, "MethodNotAllowed")


@pytest.mark.parametrize("path", ["/predict/other", "/predict/items", "/predict/items/7/8"])
def test_a_path_that_is_not_opened_is_not_found(sdk: Sdk, echo: str, path: str) -> None:
    response = sdk.post(echo, path)
    assert (response.status_code, response.json()["code"]) == (404, "NotAuthorizedOrNotFound")


def test_the_openai_specification_opens_its_paths(sdk: Sdk) -> None:
    deployment = sdk.deploy(predict_api_specification="OpenAI").id
    for path in ("/v1/chat/completions", "/v1/responses/abc/cancel"):
        assert sdk.post(deployment, f"/predict{path}").json()["path"] == path
    assert sdk.post(deployment, "/predict/v1/other").status_code == 404
    sdk.delete(deployment)


def test_an_unknown_deployment_is_not_found(sdk: Sdk) -> None:
    response = sdk.post("ocid1.datasciencemodeldeployment.oc1..no")
    assert (response.status_code, response.json()["code"]) == (404, "NotAuthorizedOrNotFound")


def test_predict_takes_no_get(sdk: Sdk, echo: str) -> None:
    response = sdk.call("GET", echo, "/predict")
    assert (response.status_code, response.json()["code"]) == (405, "MethodNotAllowed")


# --- what comes back --------------------------------------------------------------------------


def test_headers_go_in_but_credentials_stay_out(sdk: Sdk, echo: str) -> None:
    headers = sdk.post(echo, headers={"x-mine": "1"}).json()["headers"]
    assert headers["x-mine"] == "1"
    assert headers["content-type"] == "application/json"
    assert not {"authorization", "x-content-sha256"} & set(headers)


def test_an_error_of_the_container_comes_back_as_it_is(sdk: Sdk, echo: str) -> None:
    for route in ("predict", "predictWithResponseStream"):
        response = sdk.post(echo, f"/{route}/teapot")
        assert response.status_code == 418
        assert response.json() == {"error": "short and stout"}
        assert response.headers["x-from-container"] == "yes"


def test_a_payload_of_ten_megabytes_passes_and_a_larger_one_does_not(sdk: Sdk, echo: str) -> None:
    assert sdk.post(echo, json=None, data=b"x" * (10 * MEBIBYTE)).ok
    response = sdk.post(echo, json=None, data=b"x" * (10 * MEBIBYTE + 1))
    assert (response.status_code, response.json()["code"]) == (413, "PayloadTooLarge")


def test_an_answer_that_takes_too_long_is_a_500(
    sdk: Sdk, shared_cloud: LocalCloud, echo: str
) -> None:
    shared_cloud.fault(kind="timeout", operation="predict", seconds=0.3)  # in place of a minute
    response = sdk.post(echo, "/predict/slow", json={"seconds": 20})
    assert (response.status_code, response.json()["code"]) == (500, "InternalServerError")
    assert "Service Timeout" in response.json()["message"]
    assert response.elapsed.total_seconds() < 5


def test_the_limit_of_requests_a_second_is_that_of_the_documents() -> None:
    present = 0.0
    throttle = Throttle(lambda: present)
    for _ in range(150):
        throttle.check()
    present = 0.99
    with pytest.raises(ServiceError) as refused:
        throttle.check()
    assert (refused.value.status, refused.value.code) == (429, "TooManyRequests")
    present = 1.01
    throttle.check()


# --- streams ----------------------------------------------------------------------------------

STREAM = "/predictWithResponseStream/v2/models/falcon/generate_stream"


def test_a_stream_arrives_while_it_is_made(sdk: Sdk, echo: str) -> None:
    began = time.monotonic()
    with sdk.post(echo, STREAM, json={"parts": 4, "pause": 0.2}, stream=True) as response:
        assert response.headers["content-type"] == "text/event-stream"
        assert response.headers["trailer"] == "StreamFailure"
        lines = response.iter_lines()
        assert next(lines) == b"data: 0"
        assert time.monotonic() - began < 0.5
        rest = [line for line in lines if line]
    assert rest == [b"data: 1", b"data: 2", b"data: 3"]


def test_the_sdk_reads_a_stream_from_the_path_of_the_environment(sdk: Sdk) -> None:
    path = "/v2/models/falcon/generate_stream"
    deployment = sdk.deploy(variables={"MODEL_DEPLOY_PREDICT_ENDPOINT": path}).id
    answer = sdk.inference.predict_with_response_stream(deployment, '{"parts": 2}')
    assert [event.data for event in answer.data.events()] == ["0", "1"]
    sdk.delete(deployment)


# ADS 2.16.1, ads/aqua/client/client.py and openai_client.py: the headers that AQUA's clients send.
@pytest.mark.parametrize("route", ["/v1/chat/completions", "v1/completions"])
def test_the_header_route_reaches_openais_paths(sdk: Sdk, echo: str, route: str) -> None:
    response = sdk.post(echo, json={}, headers={"route": route})
    assert response.json()["path"] == f"/{route.strip('/')}"


@pytest.mark.parametrize("route", ["/admin", "/v1/../admin", "/v2/repository/index"])
def test_the_header_route_opens_nothing_else(sdk: Sdk, echo: str, route: str) -> None:
    assert sdk.post(echo, json={}, headers={"route": route}).status_code == 404


def test_aquas_clients_stream_from_predict_where_that_is_enabled(sdk: Sdk) -> None:
    variables = {
        "MODEL_DEPLOY_PREDICT_ENDPOINT": "/v2/models/falcon/generate_stream",
        "MODEL_DEPLOY_ENABLE_STREAMING": "true",
    }
    deployment = sdk.deploy(variables=variables).id
    for asked, streamed in (("true", True), ("false", False)):
        headers = {"enable-streaming": asked}
        response = sdk.post(deployment, json={"parts": 2}, headers=headers)
        assert response.content == b"data: 0\n\ndata: 1\n\n"
        assert ("transfer-encoding" in response.headers) is streamed
    sdk.delete(deployment)


@pytest.mark.parametrize("kind", ["text/plain", "text/event-stream; charset=utf-8"])
def test_a_stream_may_be_of_any_type_if_it_is_chunked(sdk: Sdk, echo: str, kind: str) -> None:
    body = {"parts": 2, "type": kind}
    with sdk.post(echo, STREAM, json=body, stream=True) as response:
        assert response.headers["content-type"] == kind
        assert response.headers["transfer-encoding"] == "chunked"
        assert response.content == b"data: 0\n\ndata: 1\n\n"


def test_an_answer_that_is_no_stream_is_a_409_on_the_streaming_route(sdk: Sdk, echo: str) -> None:
    response = sdk.post(echo, "/predictWithResponseStream")
    assert (response.status_code, response.json()["code"]) == (409, "ExternalServerIncorrectState")


def test_a_stream_is_collected_on_the_plain_route(sdk: Sdk, echo: str) -> None:
    response = sdk.post(echo, "/predict/v2/models/falcon/generate_stream", json={"parts": 2})
    assert response.content == b"data: 0\n\ndata: 1\n\n"
    assert response.headers["content-length"] == "18"


def _read_with_trailer(sdk: Sdk, deployment: str, body: dict[str, Any]) -> tuple[bytes, bytes]:
    """A streamed body and the bytes of its trailer, which Python's HTTP clients throw away."""
    url = f"{sdk.cloud.endpoint}/{deployment}{STREAM}"
    request = requests.Request("POST", url, json=body, auth=sdk.signer).prepare()
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
    connection.request("POST", parts.path, body=request.body, headers=dict(request.headers))
    assert isinstance(connection.sock, socket.socket)
    received = b""
    while b"\r\n0\r\n" not in received or not received.endswith(b"\r\n\r\n"):
        data = connection.sock.recv(65536)
        assert data, "the connection ended before the trailer"
        received += data
    connection.close()
    head, _, chunks = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    body_bytes, _, trailer = chunks.rpartition(b"\r\n0\r\n")
    return body_bytes, trailer.strip()


def test_a_stream_that_ends_well_has_an_empty_trailer(sdk: Sdk, echo: str) -> None:
    body, trailer = _read_with_trailer(sdk, echo, {"parts": 2})
    assert b"data: 1" in body
    assert trailer == b""


def test_a_stream_that_falls_silent_ends_with_the_trailer_stream_failure(
    sdk: Sdk, shared_cloud: LocalCloud, echo: str
) -> None:
    shared_cloud.fault(kind="timeout", operation="predict_with_response_stream", seconds=0.3)
    body, trailer = _read_with_trailer(sdk, echo, {"parts": 1, "then": "silence"})
    assert b"data: 0" in body
    name, _, value = trailer.partition(b": ")
    assert name.lower() == b"streamfailure"
    assert json.loads(value)["ErrorCode"] == "RequestTimeout"


def test_a_stream_whose_server_dies_ends_with_the_trailer_stream_failure(sdk: Sdk) -> None:
    endpoint = _endpoint("/v2/models/{}/generate_stream", "POST")
    deployment = sdk.deploy(custom_http_endpoints=[endpoint]).id
    body, trailer = _read_with_trailer(sdk, deployment, {"parts": 1, "then": "die"})
    assert b"data: 0" in body
    assert b"ServiceUnavailable" in trailer
    sdk.delete(deployment)
