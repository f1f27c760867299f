"""The ASGI application: services, the middleware before them, and their lifespan."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local_oci.home import DiskFullError, StateError, disk_full, is_disk_full
from local_oci.http.errors import (
    ServiceError,
    method_not_allowed,
    no_space,
    no_such_operation,
    not_emulated,
)
from local_oci.http.messages import error_response
from local_oci.http.middleware import Authentication, RequestIds, log_refusal
from local_oci.http.operations import find_operation
from local_oci.http.retry_tokens import forget_old_tokens
from local_oci.services.catalog import metadata_routes, version_set_routes
from local_oci.services.catalog import routes as catalog
from local_oci.services.catalog.workflows import (
    delete_models_of_version_set,
    export_artifact,
    import_artifact,
)
from local_oci.services.cloud import Cloud
from local_oci.services.deployments import routes as deployments
from local_oci.services.deployments.workflows import DeploymentWorkflows
from local_oci.services.faults import routes as faults
from local_oci.services.faults.middleware import Faults
from local_oci.services.invocation import routes as invocation
from local_oci.services.jobs import routes as jobs
from local_oci.services.logs import routes as logs
from local_oci.services.logs import search_routes
from local_oci.services.object_storage import copy_routes
from local_oci.services.object_storage import routes as object_storage
from local_oci.services.registry import routes as registry
from local_oci.services.resource_search import routes as resource_search
from local_oci.services.service_limits import routes as service_limits
from local_oci.services.sessions import routes as sessions
from local_oci.services.users import routes as users
from local_oci.services.vault import routes as vault
from local_oci.services.work_requests import routes as work_requests
from local_oci.services.work_requests.engine import Work, Workflow
from local_oci.services.work_requests.models import Operation

# The gateway's paths begin with a wildcard, so they come last.
_SERVICES = (
    catalog,
    metadata_routes,
    version_set_routes,
    deployments,
    jobs,
    work_requests,
    object_storage,
    copy_routes,
    logs,
    search_routes,
    sessions,
    users,
    vault,
    service_limits,
    resource_search,
    registry,
    invocation,
)
SERVICE_ROUTES: list[Route] = [route for service in _SERVICES for route in service.ROUTES]
LOCAL_ROUTES = [*faults.ROUTES, *registry.LOCAL_ROUTES, *sessions.LOCAL_ROUTES]
_UNSIGNED_BODIES = [
    *catalog.UNSIGNED_BODIES,
    *metadata_routes.UNSIGNED_BODIES,
    *object_storage.UNSIGNED_BODIES,
]
_SELF_AUTHENTICATING = registry.SELF_AUTHENTICATING | sessions.SELF_AUTHENTICATING


def build_app(cloud: Cloud) -> Starlette:
    """The application that serves a cloud."""
    app = Starlette(
        routes=[*LOCAL_ROUTES, *SERVICE_ROUTES],
        middleware=[
            Middleware(RequestIds),
            Middleware(
                Authentication,
                identity=cloud.identity,
                unsigned_bodies=_UNSIGNED_BODIES,
                self_authenticating=_SELF_AUTHENTICATING,
            ),
            Middleware(Faults, plan=cloud.faults, routes=SERVICE_ROUTES),
        ],
        exception_handlers={
            ServiceError: _refused,
            DiskFullError: _no_space,
            OSError: _os_error,
            StateError: _damaged,
            HTTPException: _not_routed,
            Exception: _failed,
        },
        lifespan=_lifespan,
    )
    app.state.cloud = cloud
    app.state.database = cloud.database  # for opc-retry-token
    app.state.local_token = cloud.home.local_token.read_text()  # for `/_local/`
    app.router.redirect_slashes = False  # the cloud has no such redirects
    return app


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    """Take up what an earlier process left; leave everything so that a later one can."""
    cloud: Cloud = app.state.cloud
    _clean_up(cloud)
    workflows = DeploymentWorkflows(cloud)
    cloud.work_requests.register(_workflows(cloud, workflows))
    workflows.settle()
    cloud.jobs.settle()
    workflows.restore()
    cloud.work_requests.resume()
    try:
        yield
    finally:
        await cloud.jobs.shutdown()
        await cloud.work_requests.shutdown()
        await workflows.shutdown()
        await cloud.fleet.shutdown()
        await cloud.registry_lifecycle.stop()
        cloud.database.close()


def _workflows(cloud: Cloud, deployments: DeploymentWorkflows) -> Mapping[Operation, Workflow]:
    return {
        **deployments.by_operation(),
        Operation.EXPORT_ARTIFACT: Workflow(partial(export_artifact, cloud)),
        Operation.IMPORT_ARTIFACT: Workflow(partial(import_artifact, cloud)),
        Operation.DELETE_PROJECT: Workflow(_nothing_more),
        Operation.DELETE_VERSION_SET: Workflow(partial(delete_models_of_version_set, cloud)),
    }


async def _nothing_more(work: Work) -> None:
    """The work of an operation that was done when it was accepted."""
    work.step("Deleted", 100)


def _clean_up(cloud: Cloud) -> None:
    forget_old_tokens(cloud.database)
    cloud.logs.forget_old_entries()
    cloud.blobs.remove_unused(
        {*cloud.catalog.blob_names(), *cloud.objects.blob_names(), *cloud.uploads.blob_names()}
    )


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    log_refusal(request.scope, error)
    return error_response(error)


async def _not_routed(request: Request, error: Exception) -> Response:
    """Starlette's own 404 and 405, in the cloud's words; 501 where the cloud has the operation."""
    assert isinstance(error, HTTPException)
    if absent := find_operation(request.method, request.scope["path"]):
        return await _refused(request, not_emulated(f"the operation {absent}"))
    refusal = method_not_allowed() if error.status_code == 405 else no_such_operation()
    return await _refused(request, refusal)


async def _no_space(request: Request, error: Exception) -> Response:
    return await _refused(request, no_space(str(error)))


async def _os_error(request: Request, error: Exception) -> Response:
    """A full disk is an answer of its own; anything else is a fault of this program."""
    assert isinstance(error, OSError)
    if not is_disk_full(error):
        raise error
    cloud: Cloud = request.app.state.cloud
    return await _no_space(request, disk_full(Path(error.filename or cloud.home.root)))


async def _damaged(request: Request, error: Exception) -> Response:
    """State that is damaged, with its remedy."""
    return await _refused(request, ServiceError(500, "InternalServerError", f"local_oci: {error}."))


async def _failed(request: Request, error: Exception) -> Response:
    """A fault of this program."""
    return error_response(
        ServiceError(500, "InternalServerError", f"local_oci failed: {error!r}; see its log.")
    )
