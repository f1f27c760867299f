"""The deployments of a name that the cloud remembers."""

from __future__ import annotations

from typing import Any

from oci.data_science import DataScienceClient

from falconry.cloud.retries import all_records
from falconry.cloud.session import Session, translate_cloud_errors

GONE = frozenset({"DELETING", "DELETED"})


def named(session: Session, name: str) -> list[Any]:
    """Lists the deployments of this name, as the SDK's ModelDeploymentSummary.

    Raises:
        CloudError: the cloud refuses, or does not answer.
    """
    client: Any = session.client(DataScienceClient)
    with translate_cloud_errors(f"looking for the deployment '{name}'"):
        return all_records(client.list_model_deployments, session.compartment_id, display_name=name)


def current(session: Session, name: str) -> Any | None:
    """Finds the newest deployment of this name that is not deleted.

    Raises:
        CloudError: the cloud refuses, or does not answer.
    """
    known = [each for each in named(session, name) if each.lifecycle_state not in GONE]
    return max(known, key=lambda each: each.time_created, default=None)
