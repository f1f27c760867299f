"""Resource Search finds the deployments of a model, as ADS looks for them."""

from __future__ import annotations

from typing import Any

import oci
import pytest

from tests.local_oci.support import Sdk, refusal

search = oci.resource_search.models


@pytest.fixture(scope="module")
def client(sdk: Sdk) -> oci.resource_search.ResourceSearchClient:
    return sdk.client(oci.resource_search.ResourceSearchClient)


@pytest.fixture(scope="module")
def deployment(sdk: Sdk) -> Any:
    deployment = sdk.deploy()
    yield deployment
    sdk.delete(deployment.id)


def _model(deployment: Any) -> str:
    configuration = deployment.model_deployment_configuration_details
    return str(configuration.model_configuration_details.model_id)


def _found(client: Any, query: str, **options: Any) -> Any:
    return client.search_resources(search.StructuredSearchDetails(query=query), **options)


def test_a_models_deployments_are_found(client: Any, deployment: Any) -> None:
    # The words of ADS 2.16.1, ads/model/service/oci_datascience_model.py.
    query = f"query datasciencemodeldeployment resources where ModelId='{_model(deployment)}'"
    (resource,) = _found(client, query, limit=500).data.items
    assert resource.identifier == deployment.id
    assert (resource.display_name, resource.lifecycle_state) == (deployment.display_name, "ACTIVE")
    assert resource.time_created == deployment.time_created
    assert resource.compartment_id == deployment.compartment_id


def test_all_conditions_have_to_hold(client: Any, deployment: Any) -> None:
    query = (
        "query DataScienceModelDeployment resources"
        f" where displayName = '{deployment.display_name}' && lifecycleState = '%s'"
    )
    assert len(_found(client, query % "ACTIVE").data.items) == 1
    assert _found(client, query % "DELETED").data.items == []


def test_results_come_in_pages(sdk: Sdk, client: Any, deployment: Any) -> None:
    second = sdk.deploy().id
    found, page = [], None
    while not found or page:
        answer = _found(client, "query datasciencemodeldeployment resources", limit=1, page=page)
        (resource,) = answer.data.items
        found.append(resource.identifier)
        page = answer.headers.get("opc-next-page")
    assert {deployment.id, second} <= set(found)
    assert len(found) == len(set(found))
    sdk.delete(second)


@pytest.mark.parametrize(
    "query",
    [
        "query all resources",
        "query datasciencemodeldeployment resources where colour = 'red'",
        "query datasciencemodeldeployment resources where ModelId != 'x'",
        "find everything",
    ],
)
def test_what_is_not_understood_is_refused(client: Any, query: str) -> None:
    assert refusal(lambda: _found(client, query)) == (400, "InvalidParameter")


def test_free_text_is_not_searched_for(client: Any) -> None:
    details = search.FreeTextSearchDetails(text="falcon")
    assert refusal(lambda: client.search_resources(details))[0] == 400
