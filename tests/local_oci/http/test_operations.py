"""What Oracle's services have and local_oci lacks is named; a final 409 is not repeated."""

from __future__ import annotations

import oci
import pytest
import requests

from local_oci.app import SERVICE_ROUTES
from local_oci.http.operations import find_operation
from scripts import record_operations
from tests.local_oci.support import Sdk, refusal


def test_the_recorded_operations_are_those_of_the_sdk() -> None:
    recorded = record_operations.RECORD.read_text(encoding="utf-8")
    assert recorded == record_operations.record(), "python -m scripts.record_operations"


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("POST", "/20190101/pipelines", "data_science.create_pipeline"),
        ("GET", "/20190101/modelGroups/ocid1.x", "data_science.get_model_group"),
        ("POST", "/n/localoci/b/a/p", "object_storage.create_preauthenticated_request"),
        ("PUT", "/20160918/policies/ocid1.x", "identity.update_policy"),
        ("GET", "/20190101/nothing", None),
        ("POST", "/ocid1.x/predict", None),
    ],
    ids=str,
)
def test_an_operation_is_found_by_method_and_path(method: str, path: str, name: str | None) -> None:
    assert find_operation(method, path) == name


def test_each_emulated_path_of_a_recorded_service_is_one_of_its_operations() -> None:
    # Those of a registry's tokens, of federation and of the gateway are no operations of the SDK.
    versioned = [route for route in SERVICE_ROUTES if route.path[1:9].isdecimal()]
    assert len(versioned) > 80
    for route in versioned:
        path = "".join("x" if part.startswith("{") else part for part in _parts(route.path))
        found = [find_operation(each, path) for each in sorted(route.methods or ())]
        assert any(found) or "docker/token" in path or "x509" in path, route.path


def _parts(path: str) -> list[str]:
    return path.replace("{", "\0{").replace("}", "}\0").split("\0")


def test_an_absent_operation_is_named_and_no_operation_is_not_found(sdk: Sdk) -> None:
    with pytest.raises(oci.exceptions.ServiceError) as error:
        sdk.data_science.list_pipelines(sdk.compartment)
    assert (error.value.status, error.value.code) == (501, "MethodNotImplemented")
    assert "data_science.list_pipelines" in error.value.message
    url = f"{sdk.cloud.endpoint}/20190101/nothing"
    response = requests.get(url, auth=sdk.signer, timeout=5)
    assert (response.status_code, response.json()["code"]) == (404, "NotFound")


def test_a_state_that_stays_is_refused_with_a_code_that_the_sdk_does_not_repeat(sdk: Sdk) -> None:
    model = sdk.model()
    sdk.data_science.deactivate_model(model)
    retrying = oci.retry.DEFAULT_RETRY_STRATEGY
    assert refusal(lambda: sdk.data_science.deactivate_model(model, retry_strategy=retrying)) == (
        409,
        "Conflict",
    )
    details = sdk.deployment_details(model)
    assert refusal(
        lambda: sdk.data_science.create_model_deployment(details, retry_strategy=retrying)
    ) == (409, "Conflict")
