"""Old models of the catalog: put out of use or deleted, never one that a deployment uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import oci
from oci.data_science import DataScienceClient

from falconry.cloud.catalog import Catalog
from falconry.cloud.retries import all_records
from falconry.cloud.session import Session, cloud_errors_told
from falconry.cloud.tags import MODEL_TAG

_GONE = "DELETED"


@dataclass(frozen=True, slots=True)
class PrunedModel:
    """What became of a model.

    Attributes:
        id: its OCID.
        made: when, in ISO 8601.
        outcome: `kept`, `in use`, `deactivated` or `deleted`.
    """

    id: str
    made: str
    outcome: str


def prune_models(session: Session, name: str, keep: int, *, delete: bool) -> list[PrunedModel]:
    """Deactivates or deletes all models of a name but the newest and those in use.

    Args:
        session: the way into the cloud.
        name: the models' display name, which is their deployment's.
        keep: how many of the newest stay.
        delete: whether the others are deleted, with their artifacts.

    Returns:
        Every model, the newest first, with what became of it.

    Raises:
        CloudError: the cloud refuses something else than to delete a model that is in use.
    """
    models = [each for each in Catalog(session).models() if each.display_name == name][::-1]
    pruning = _Pruning(session, delete=delete)
    used = pruning.models_in_use()
    return [
        PrunedModel(
            str(model.id),
            f"{model.time_created:%Y-%m-%dT%H:%M:%SZ}",
            "kept" if place < keep else pruning.outcome_of(model, used),
        )
        for place, model in enumerate(models)
    ]


class _Pruning:
    def __init__(self, session: Session, *, delete: bool) -> None:
        self._session = session
        self._client: Any = session.client(DataScienceClient)
        self._delete = delete

    def models_in_use(self) -> set[str]:
        """The models of all deployments in the compartment, and those they would return to."""
        with cloud_errors_told("looking for the models in use"):
            deployments = all_records(
                self._client.list_model_deployments, self._session.compartment_id
            )
        used = set()
        for deployment in deployments:
            if deployment.lifecycle_state != _GONE:
                details = deployment.model_deployment_configuration_details
                used.add(details.model_configuration_details.model_id)
                used.add((deployment.freeform_tags or {}).get(MODEL_TAG))
        return used

    def outcome_of(self, model: Any, used: set[str]) -> str:
        if model.id in used:
            return "in use"
        if self._delete:
            return self._deleted(model)
        return "deactivated" if self._deactivated(model) else "in use"

    def _deleted(self, model: Any) -> str:
        with cloud_errors_told("deleting the model"):
            try:
                self._client.delete_model(model.id)
            except oci.exceptions.ServiceError as error:
                # 409: a deployment has come to use it; 404: it is gone, maybe by a cut request.
                if error.status == 409:
                    return "in use"
                if error.status != 404:
                    raise
        return "deleted"

    def _deactivated(self, model: Any) -> bool:
        """Whether it is inactive now; one that a deployment has just come to use is not."""
        with cloud_errors_told("deactivating the model"):
            if model.lifecycle_state == "ACTIVE":
                try:
                    self._client.deactivate_model(model.id)
                except oci.exceptions.ServiceError as error:
                    if self._client.get_model(model.id).data.lifecycle_state != "INACTIVE":
                        if error.status == 409:
                            return False
                        raise
            if model.id not in self.models_in_use():
                return True
            self._client.activate_model(model.id)
        return False
