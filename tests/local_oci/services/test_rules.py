"""The documented limits of a deployment are refused before anything is made."""

from __future__ import annotations

from typing import Any

import pytest

from tests.local_oci.support import Sdk, ds, refusal

INVALID = (400, "InvalidParameter")


@pytest.fixture(scope="module")
def model(sdk: Sdk) -> str:
    return sdk.model()


def _create(sdk: Sdk, model: str, **options: Any) -> Any:
    details = sdk.deployment_details(model, **options)
    return lambda: sdk.data_science.create_model_deployment(details)


@pytest.mark.parametrize("port", [80, 1023, 65536, 24224, 8446, 8447])
@pytest.mark.parametrize("name", ["server_port", "health_check_port"])
def test_a_port_outside_the_rules_is_refused(sdk: Sdk, model: str, name: str, port: int) -> None:
    assert refusal(_create(sdk, model, **{name: port})) == INVALID


def test_a_port_may_be_text_as_in_the_samples(sdk: Sdk, model: str) -> None:
    details = sdk.data_science.base_client.sanitize_for_serialization(
        sdk.deployment_details(model, server_port=8000)
    )
    container = details["modelDeploymentConfigurationDetails"]["environmentConfigurationDetails"]
    container["serverPort"] = container["healthCheckPort"] = "8000"
    answer = sdk.data_science.create_model_deployment(details)
    configuration = answer.data.model_deployment_configuration_details
    assert configuration.environment_configuration_details.server_port == 8000
    sdk.finished(answer.headers["opc-work-request-id"])
    sdk.delete(answer.data.id)


def test_a_command_of_2048_bytes_is_refused(sdk: Sdk, model: str) -> None:
    long = {"entrypoint": ["x" * 1000], "cmd": ["y" * 1048]}
    assert refusal(_create(sdk, model, **long)) == INVALID


@pytest.mark.parametrize(
    "name", ["A", "1A", "A-B", "A_", "A" * 32, "TENANCY_OCID", "CONTAINER_CUSTOM_IMAGE"]
)
def test_a_name_of_a_variable_outside_the_rules_is_refused(sdk: Sdk, model: str, name: str) -> None:
    assert refusal(_create(sdk, model, variables={name: "x"})) == INVALID


def test_variables_of_2048_bytes_in_all_are_refused(sdk: Sdk, model: str) -> None:
    assert refusal(_create(sdk, model, variables={"AB": "x" * 2046})) == INVALID


def test_an_unknown_image_is_refused(sdk: Sdk, model: str) -> None:
    assert refusal(_create(sdk, model, image="local/other:1")) == INVALID


def test_an_unknown_shape_is_refused_and_a_wrong_size(sdk: Sdk, model: str) -> None:
    for changes in (
        {"instance_shape_name": "VM.Imaginary"},
        {
            "model_deployment_instance_shape_config_details": (
                ds.ModelDeploymentInstanceShapeConfigDetails(ocpus=1, memory_in_gbs=5)
            )
        },
    ):
        details = sdk.deployment_details(model)
        configuration = details.model_deployment_configuration_details.model_configuration_details
        for name, value in changes.items():
            setattr(configuration.instance_configuration, name, value)
        assert (
            refusal(lambda details=details: sdk.data_science.create_model_deployment(details))
            == INVALID
        )


def test_more_than_fifteen_custom_endpoints_are_refused(sdk: Sdk, model: str) -> None:
    endpoints = [
        ds.InferenceHttpEndpoint(endpoint_uri_suffix=f"/{n}", http_methods=["GET"])
        for n in range(16)
    ]
    assert refusal(_create(sdk, model, custom_http_endpoints=endpoints)) == INVALID


def test_other_methods_than_the_four_are_refused(sdk: Sdk, model: str) -> None:
    endpoint = ds.InferenceHttpEndpoint(endpoint_uri_suffix="/a", http_methods=["PATCH"])
    assert refusal(_create(sdk, model, custom_http_endpoints=[endpoint])) == INVALID


def test_another_api_specification_than_openai_is_refused(sdk: Sdk, model: str) -> None:
    assert refusal(_create(sdk, model, predict_api_specification="triton")) == INVALID


def test_logs_that_are_not_there_are_refused(sdk: Sdk, model: str) -> None:
    reference = ds.LogDetails(log_id="ocid1.log.oc1..no", log_group_id="ocid1.loggroup.oc1..no")
    logs = ds.CategoryLogDetails(access=reference)
    assert refusal(_create(sdk, model, logs=logs)) == (
        400,
        "RelatedResourceNotAuthorizedOrNotFound",
    )


def test_a_model_that_cannot_be_deployed_is_refused(sdk: Sdk) -> None:
    project = sdk.project()
    details = ds.CreateModelDetails(compartment_id=sdk.compartment, project_id=project)
    empty = sdk.data_science.create_model(details).data.id
    assert refusal(_create(sdk, empty)) == INVALID
    inactive = sdk.model(project=project)
    sdk.data_science.deactivate_model(inactive)
    assert refusal(_create(sdk, inactive)) == (409, "Conflict")
    deleted = sdk.model(project=project)
    create = _create(sdk, deleted)
    sdk.data_science.delete_model(deleted)
    assert refusal(create) == (400, "RelatedResourceNotAuthorizedOrNotFound")


def test_a_model_that_is_deployed_is_not_deleted(sdk: Sdk, echo: str) -> None:
    deployment = sdk.data_science.get_model_deployment(echo).data
    model = deployment.model_deployment_configuration_details.model_configuration_details.model_id
    assert refusal(lambda: sdk.data_science.delete_model(model)) == (409, "Conflict")


def test_what_is_not_emulated_says_so(sdk: Sdk, model: str) -> None:
    details = sdk.deployment_details(model)
    details.model_deployment_configuration_details.environment_configuration_details = (
        ds.DefaultModelDeploymentEnvironmentConfigurationDetails()
    )
    assert refusal(lambda: sdk.data_science.create_model_deployment(details)) == (
        501,
        "MethodNotImplemented",
    )
