"""One local cloud: everything that its services share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

from starlette.requests import Request

from local_oci.home import Home
from local_oci.identity import Identity
from local_oci.runtime.process import ProcessRunner
from local_oci.runtime.runner import Runner
from local_oci.runtime.runners import CombinedRunner, DockerRunner
from local_oci.services.catalog.store import Catalog
from local_oci.services.deployments.fleet import Fleet
from local_oci.services.deployments.models import ModelDeployment
from local_oci.services.faults.plan import FaultFile, FaultPlan
from local_oci.services.invocation.forwarding import Throttle
from local_oci.services.jobs.runs import Jobs
from local_oci.services.logs.store import LogStore
from local_oci.services.object_storage.models import Bucket
from local_oci.services.object_storage.store import Objects, Uploads
from local_oci.services.registry.contents import Repositories
from local_oci.services.registry.service import ContainerRegistry, RegistryLifecycle
from local_oci.services.users.store import AuthTokens
from local_oci.services.vault.models import Secret
from local_oci.services.work_requests.engine import WorkRequests
from local_oci.services.work_requests.models import WorkRequest
from local_oci.storage.blobs import Blobs
from local_oci.storage.database import Database
from local_oci.storage.records import Collection


@dataclass(frozen=True, slots=True)
class Cloud:
    """The state and the machinery of one cloud; it belongs to the event loop's thread."""

    home: Home
    identity: Identity
    endpoint: str
    database: Database
    runner: Runner
    blobs: Blobs
    catalog: Catalog
    deployments: Collection[ModelDeployment]
    fleet: Fleet
    jobs: Jobs
    work_requests: WorkRequests
    buckets: Collection[Bucket]
    objects: Objects
    uploads: Uploads
    logs: LogStore
    auth_tokens: AuthTokens
    repositories: Repositories
    registry_lifecycle: RegistryLifecycle
    faults: FaultPlan
    secrets: Collection[Secret]
    throttle: Throttle = field(default_factory=Throttle)

    @property
    def registry(self) -> ContainerRegistry | None:
        """The container registry, if there is one."""
        return self.registry_lifecycle.registry


def build_cloud(
    home: Home,
    identity: Identity,
    endpoint: str,
    processes: ProcessRunner,
    start_timeout: float,
    stop_grace: int,
) -> Cloud:
    """Open a directory's cloud."""
    database = Database(home.database)
    blobs = Blobs(home)
    auth_tokens = AuthTokens(database)
    repositories = Repositories(database)
    registry_lifecycle = RegistryLifecycle(home, endpoint, identity, repositories, auth_tokens)
    logs = LogStore(database)
    faults = FaultPlan(FaultFile(home.faults))
    runner = CombinedRunner(processes, DockerRunner(home, registry_lifecycle, stop_grace))
    return Cloud(
        home=home,
        identity=identity,
        endpoint=endpoint,
        database=database,
        runner=runner,
        blobs=blobs,
        catalog=Catalog(database),
        deployments=Collection(
            database, "model_deployment", ModelDeployment, lambda record: record.id
        ),
        fleet=Fleet(home, runner, start_timeout),
        jobs=Jobs(database, home, identity, runner, logs, faults),
        work_requests=WorkRequests(
            Collection(database, "work_request", WorkRequest, lambda record: record.id)
        ),
        buckets=Collection(database, "bucket", Bucket, lambda record: record.name),
        objects=Objects(database, blobs),
        uploads=Uploads(database, blobs),
        logs=logs,
        auth_tokens=auth_tokens,
        repositories=repositories,
        registry_lifecycle=registry_lifecycle,
        faults=faults,
        secrets=Collection(database, "secret", Secret, lambda record: record.id),
    )


def cloud_of(request: Request) -> Cloud:
    """The cloud that a request was sent to."""
    return cast(Cloud, request.app.state.cloud)
