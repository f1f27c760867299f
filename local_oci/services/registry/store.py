"""The tenancy's container repositories and their configuration."""

from __future__ import annotations

from local_oci.http.errors import ServiceError, limit_exceeded, not_found
from local_oci.limits import MAX_REPOSITORIES
from local_oci.services.registry.models import Configuration, Repository
from local_oci.storage.database import Database
from local_oci.storage.records import Collection


class Repositories:
    """All repositories, by name: it is unique in the tenancy, whatever the compartment.

    (Oracle's release note of 18 February 2021, "Support for repositories in compartments".)
    """

    def __init__(self, database: Database) -> None:
        self.records = Collection(
            database, "container_repository", Repository, lambda record: record.display_name
        )
        self._configurations = Collection(
            database, "container_configuration", Configuration, lambda _: Configuration.KEY
        )

    def named(self, name: str) -> Repository | None:
        """The repository with this name, if there is one."""
        return self.records.get(name)

    def repository(self, repository_id: str) -> Repository:
        """A repository named in a path; 404 if there is none."""
        for record in self.records.scan():
            if record.id == repository_id:
                return record
        raise not_found()

    def add(self, repository: Repository) -> Repository:
        """Store a new repository.

        Raises:
            ServiceError: 409 if the name is taken, 400 if there are too many.
        """
        if self.named(repository.display_name) is not None:
            # The code is remembered from users' reports, [inferred].
            raise ServiceError(
                409, "NAMESPACE_CONFLICT", f"Repository {repository.display_name} already exists."
            )
        if self.full:
            raise limit_exceeded(f"A tenancy can have {MAX_REPOSITORIES} container repositories.")
        return self.records.put(repository)

    @property
    def full(self) -> bool:
        """Whether there can be no more repositories."""
        return self.records.count() >= MAX_REPOSITORIES

    @property
    def configuration(self) -> Configuration:
        """The tenancy's configuration."""
        return self._configurations.get(Configuration.KEY) or Configuration(etag=Configuration.KEY)

    def configure(self, **fields: object) -> Configuration:
        """Change the tenancy's configuration."""
        return self._configurations.change(self.configuration, **fields)
