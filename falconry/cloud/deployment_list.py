"""The deployments of a name, as one list tells of them: the one question of an idle run.

It is asked through the SDK's base client, which has its signing, its transport and its errors. The
service's own client also brings 343 modules of models (oci 2.189.0), a tenth of a second to import.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from oci.base_client import BaseClient

from falconry.cloud.retries import all_records
from falconry.cloud.session import Session, cloud_errors_told

GONE = frozenset({"DELETING", "DELETED"})


@dataclass(frozen=True, slots=True)
class DeploymentSummary:
    """What the list says of a deployment, by the names of the SDK's ModelDeploymentSummary."""

    id: str
    lifecycle_state: str
    time_created: datetime
    model_deployment_url: str | None
    freeform_tags: Mapping[str, str]


def named(session: Session, name: str) -> list[DeploymentSummary]:
    """All deployments of this name that the cloud remembers.

    Raises:
        CloudError: the cloud refuses, or does not answer.
    """
    client = session.client(_ListClient)
    with cloud_errors_told(f"looking for the deployment '{name}'"):
        rows = all_records(client.list_model_deployments, session.compartment_id, display_name=name)
    return [_summary(row) for row in rows]


def standing(session: Session, name: str) -> DeploymentSummary | None:
    """The newest deployment of this name that is not deleted, if any.

    Raises:
        CloudError: the cloud refuses, or does not answer.
    """
    known = [each for each in named(session, name) if each.lifecycle_state not in GONE]
    return max(known, key=lambda each: each.time_created, default=None)


class _ListClient:
    """DataScienceClient's list_model_deployments alone; its records are plain JSON.

    Names and paths are those of oci 2.189.0, data_science/data_science_client.py.
    """

    def __init__(self, config: Mapping[str, Any], **options: Any) -> None:
        self._retries = options.pop("retry_strategy")
        self.base_client = BaseClient(
            "data_science",
            config,
            options.pop("signer"),
            {},
            base_path="/20190101",
            service_endpoint_template="https://datascience.{region}.oci.{secondLevelDomain}",
            service_endpoint_template_per_realm={},
            skip_deserialization=True,
            **options,
        )

    def list_model_deployments(
        self, compartment_id: str, *, display_name: str, page: str | None = None
    ) -> Any:
        """One page of the list, as the SDK's Response."""
        query = {"compartmentId": compartment_id, "displayName": display_name, "page": page}
        headers = {"accept": "application/json", "content-type": "application/json"}
        self.base_client.add_opc_client_retries_header(headers)
        return self._retries.make_retrying_call(
            self.base_client.call_api,
            resource_path="/modelDeployments",
            method="GET",
            query_params={name: value for name, value in query.items() if value is not None},
            header_params=headers,
            response_type="list[ModelDeploymentSummary]",
            operation_name="list_model_deployments",
        )


def _summary(row: Mapping[str, Any]) -> DeploymentSummary:
    return DeploymentSummary(
        id=row["id"],
        lifecycle_state=row["lifecycleState"],
        time_created=datetime.fromisoformat(row["timeCreated"]),
        model_deployment_url=row.get("modelDeploymentUrl"),
        freeform_tags=row.get("freeformTags") or {},
    )
