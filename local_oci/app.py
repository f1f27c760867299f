"""The ASGI application: services, what stands before them, and what lives as long as they do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

import local_oci.services.catalog.metadata_routes
import local_oci.services.catalog.routes
import local_oci.services.catalog.version_set_routes
import local_oci.services.deployments.routes
import local_oci.services.faults.routes
import local_oci.services.invocation.routes
import local_oci.services.logs.routes
import local_oci.services.logs.search_routes
import local_oci.services.object_storage.routes
import local_oci.services.registry.routes
import local_oci.services.registry.token_routes
import local_oci.services.resource_search.routes
import local_oci.services.service_limits.routes
import local_oci.services.sessions.routes
import local_oci.services.users.routes
import local_oci.services.users.tenancy_routes
import local_oci.services.work_requests.routes
from local_oci.http.errors import ServiceError, method_not_allowed, no_such_operation
from local_oci.http.middleware import Authentication, RequestIds, log_refusal
from local_oci.http.responses import error_response
from local_oci.http.retry_tokens import forget_old_tokens
from local_oci.services.catalog.workflows import (
    delete_models_of_version_set,
    export_artifact,
    import_artifact,
)
from local_oci.services.cloud import Cloud
from local_oci.services.deployments.workflows import DeploymentWorkflows
from local_oci.services.faults.middleware import Faults
from local_oci.services.work_requests.engine import Work, Workflow
from local_oci.services.work_requests.models import Operation

# The gateway's paths begin with a wildcard, so they come last.
_SERVICE_ROUTES = [
    *local_oci.services.catalog.routes.ROUTES,
    *local_oci.services.catalog.metadata_routes.ROUTES,
    *local_oci.services.catalog.version_set_routes.ROUTES,
    *local_oci.services.deployments.routes.ROUTES,
    *local_oci.services.work_requests.routes.ROUTES,
    *local_oci.services.object_storage.routes.ROUTES,
    *local_oci.services.logs.routes.ROUTES,
    *local_oci.services.logs.search_routes.ROUTES,
    *local_oci.services.sessions.routes.ROUTES,
    *local_oci.services.users.routes.ROUTES,
    *local_oci.services.users.tenancy_routes.ROUTES,
    *local_oci.services.service_limits.routes.ROUTES,
    *local_oci.services.resource_search.routes.ROUTES,
    *local_oci.services.registry.routes.ROUTES,
    *local_oci.services.registry.token_routes.ROUTES,
    *local_oci.services.invocation.routes.ROUTES,
]
_LOCAL_ROUTES = [
    *local_oci.services.faults.routes.ROUTES,
    *local_oci.services.registry.token_routes.LOCAL_ROUTES,
    *local_oci.services.sessions.routes.LOCAL_ROUTES,
]
_UNSIGNED_BODIES = [
    *local_oci.services.catalog.routes.UNSIGNED_BODIES,
    *local_oci.services.catalog.metadata_routes.UNSIGNED_BODIES,
    *local_oci.services.object_storage.routes.UNSIGNED_BODIES,
]
_SELF_AUTHENTICATING = (
    local_oci.services.registry.token_routes.SELF_AUTHENTICATING
    | local_oci.services.sessions.routes.SELF_AUTHENTICATING
)


def build_app(cloud: Cloud) -> Starlette:
    """The application that serves a cloud."""
    app = Starlette(
        routes=[*_LOCAL_ROUTES, *_SERVICE_ROUTES],
        middleware=[
            Middleware(RequestIds),
            Middleware(
                Authentication,
                identity=cloud.identity,
                unsigned_bodies=_UNSIGNED_BODIES,
                self_authenticating=_SELF_AUTHENTICATING,
            ),
            Middleware(Faults, plan=cloud.faults, routes=_SERVICE_ROUTES),
        ],
        exception_handlers={
            ServiceError: _refused,
            HTTPException: _not_routed,
            Exception: _failed,
        },
        lifespan=_lifespan,
    )
    app.state.cloud = cloud
    return app


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    """Take up what an earlier process left; leave everything so that a later one can."""
    cloud: Cloud = app.state.cloud
    _sweep(cloud)
    workflows = DeploymentWorkflows(cloud)
    cloud.work_requests.register(_workflows(cloud, workflows))
    workflows.restore()
    cloud.work_requests.resume()
    try:
        yield
    finally:
        await cloud.work_requests.shutdown()
        await workflows.shutdown()
        await cloud.fleet.shutdown()
        await cloud.registry_switch.turn_off()
        cloud.database.close()


def _workflows(cloud: Cloud, deployments: DeploymentWorkflows) -> Mapping[Operation, Workflow]:
    return {
        **deployments.by_operation(),
        Operation.EXPORT_ARTIFACT: partial(export_artifact, cloud),
        Operation.IMPORT_ARTIFACT: partial(import_artifact, cloud),
        Operation.DELETE_PROJECT: _nothing_more,
        Operation.DELETE_VERSION_SET: partial(delete_models_of_version_set, cloud),
    }


async def _nothing_more(work: Work) -> None:
    """The work of an operation that was done when it was accepted."""
    work.step("Deleted", 100)


def _sweep(cloud: Cloud) -> None:
    forget_old_tokens(cloud.database)
    cloud.logs.forget_old_entries()
    cloud.blobs.sweep(
        {*cloud.catalog.blob_names(), *cloud.objects.blob_names(), *cloud.uploads.blob_names()}
    )


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    log_refusal(request.scope, error)
    return error_response(error)


async def _not_routed(request: Request, error: Exception) -> Response:
    """Starlette's own 404 and 405, in the cloud's words."""
    assert isinstance(error, HTTPException)
    refusal = method_not_allowed() if error.status_code == 405 else no_such_operation()
    return await _refused(request, refusal)


async def _failed(request: Request, error: Exception) -> Response:
    """A fault of this program."""
    return error_response(
        ServiceError(500, "InternalServerError", f"local_oci failed: {error!r}; see its log.")
    )
