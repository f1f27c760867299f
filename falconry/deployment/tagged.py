"""What has a freeform tag in the profile's compartment, and its removal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from oci.artifacts import ArtifactsClient
from oci.data_science import DataScienceClient
from oci.logging import LoggingManagementClient

from falconry.cloud.retries import all_records
from falconry.cloud.session import Session, ignore_statuses, translate_cloud_errors
from falconry.cloud.work_requests import Watch
from falconry.deployment.deployments import Deployments
from falconry.errors import CloudError

_GONE = frozenset({"DELETED", "DELETING"})


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource of the cloud that has the tag.

    Attributes:
        problem: why it could not be removed; None if it was.
    """

    kind: str
    name: str
    id: str
    problem: str | None = None

    def facts(self) -> dict[str, Any]:
        """Returns the facts for a program."""
        return asdict(self)


def remove_tagged(session: Session, name: str, value: str, watch: Watch) -> list[Resource]:
    """Removes everything that has a tag, each after what needs it.

    Returns:
        What was found, with the reason where a removal failed. What could not be looked for is a
        resource without an OCID.
    """
    removal = _Removal(session, (name, value), watch)
    found: list[Resource] = []
    for kind, remove in (
        ("deployments", removal.deployments),
        ("models", removal.models),
        ("model version sets", removal.version_sets),
        ("projects", removal.projects),
        ("log groups", removal.log_groups),
        ("container repositories", removal.repositories),
    ):
        try:
            found += remove(kind)
        except CloudError as error:
            found.append(Resource(kind, "", "", str(error)))
    return found


class _Removal:
    def __init__(self, session: Session, tag: tuple[str, str], watch: Watch) -> None:
        self._session = session
        self._compartment = session.compartment_id
        self._tag = tag
        self._watch = watch
        self._science: Any = session.client(DataScienceClient)
        self._logging: Any = session.client(LoggingManagementClient)
        self._artifacts: Any = session.client(ArtifactsClient)

    def deployments(self, kind: str) -> Iterator[Resource]:
        remove = Deployments(self._session).remove
        for each in self._tagged(kind, self._science.list_model_deployments):
            yield self._removed("deployment", each, remove, each.display_name, self._watch)

    def models(self, kind: str) -> Iterator[Resource]:
        for each in self._tagged(kind, self._science.list_models):
            yield self._removed("model", each, self._science.delete_model, each.id)

    def version_sets(self, kind: str) -> Iterator[Resource]:
        delete = self._science.delete_model_version_set
        for each in self._tagged(kind, self._science.list_model_version_sets):
            yield self._removed("model version set", each, delete, each.id)

    def projects(self, kind: str) -> Iterator[Resource]:
        for each in self._tagged(kind, self._science.list_projects):
            yield self._removed("project", each, self._science.delete_project, each.id)

    def log_groups(self, kind: str) -> Iterator[Resource]:
        client = self._logging
        for group in self._tagged(kind, client.list_log_groups):
            with translate_cloud_errors("looking for logs"):
                logs = all_records(client.list_logs, group.id)
            for each in logs:
                yield self._removed("log", each, client.delete_log, group.id, each.id)
            yield self._removed("log group", group, client.delete_log_group, group.id)

    def repositories(self, kind: str) -> Iterator[Resource]:
        delete = self._artifacts.delete_container_repository
        for each in self._tagged(kind, self._artifacts.list_container_repositories):
            yield self._removed("container repository", each, delete, each.id)

    def _tagged(self, what: str, operation: Callable[..., Any]) -> list[Any]:
        name, value = self._tag
        found: list[Any] = []
        # local_oci without a registry answers 501.
        with translate_cloud_errors(f"looking for {what}"), ignore_statuses(501):
            found = all_records(operation, self._compartment)
        return [
            each
            for each in found
            if (each.freeform_tags or {}).get(name) == value
            and getattr(each, "lifecycle_state", None) not in _GONE
        ]

    def _removed(
        self, kind: str, resource: Any, remove: Callable[..., object], *arguments: Any
    ) -> Resource:
        name = getattr(resource, "display_name", None) or getattr(resource, "name", None)
        problem = None
        try:
            # A 404 may mean that it is gone, or that no policy allows it: the next look tells.
            with translate_cloud_errors(f"removing the {kind}"):
                remove(*arguments)
        except CloudError as error:
            problem = str(error)
        return Resource(kind, str(name), str(resource.id), problem)
