"""HTTP of the Artifacts service, of the registry's tokens, and of `/_local/registry`."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local_oci.http.errors import ServiceError, invalid_parameter, not_emulated, not_found
from local_oci.http.messages import (
    check_if_match,
    empty_response,
    json_response,
    parse_details,
    read_details,
    record_response,
    required_query,
)
from local_oci.http.middleware import LOCAL_PREFIX, from_here, log_refusal, signed_request
from local_oci.http.pages import Page, as_collection, list_response
from local_oci.http.retry_tokens import once
from local_oci.limits import REGISTRY_TOKEN_LIFETIME
from local_oci.services.cloud import cloud_of
from local_oci.services.registry.auth import AnonymousError, parse_scopes
from local_oci.services.registry.models import (
    REPOSITORY_TYPE,
    CreateRepositoryDetails,
    Image,
    LookupImageByUriDetails,
    Repository,
    RepositorySummary,
    UpdateConfigurationDetails,
    UpdateRepositoryDetails,
    is_repository_name,
    parse_image_name,
)
from local_oci.services.registry.process import TOKEN_PATH, RegistryError
from local_oci.services.registry.service import ContainerRegistry
from local_oci.storage.records import new_ocid

# --- repositories -----------------------------------------------------------------------------
# Whoever has no signature shows a password, or is nobody.
SELF_AUTHENTICATING = frozenset({TOKEN_PATH})


@once
def create_container_repository(request: Request, body: bytes) -> Response:
    """Make an empty repository."""
    details = parse_details(CreateRepositoryDetails, body)
    registry_of(request)
    if not is_repository_name(details.display_name):
        raise invalid_parameter(
            f"displayName: '{details.display_name}' is not the name of a repository."
        )
    cloud = cloud_of(request)
    repository = Repository(
        **details.model_dump(), id=new_ocid(REPOSITORY_TYPE), created_by=cloud.identity.user
    )
    return record_response(cloud.repositories.add(repository))


async def get_container_repository(request: Request) -> Response:
    """One repository."""
    return await _shown(request, _repository(request))


async def list_container_repositories(request: Request) -> Response:
    """Repositories of a compartment, and how much they hold together."""
    repositories = await registry_of(request).counted(_of_compartment(request))

    def respond(page: Page[RepositorySummary]) -> Response:
        return as_collection(
            page,
            repositoryCount=len(repositories),
            imageCount=sum(repository.image_count for repository in repositories),
            layerCount=sum(repository.layer_count for repository in repositories),
            layersSizeInBytes=sum(repository.layers_size_in_bytes for repository in repositories),
        )

    return list_response(
        request,
        [repository.summary() for repository in repositories],
        filters={
            "repositoryId": lambda repository: repository.id,
            "displayName": lambda repository: repository.display_name,
            "isPublic": lambda repository: str(repository.is_public).lower(),
            "lifecycleState": lambda repository: repository.lifecycle_state,
        },
        sort_fields={
            "TIMECREATED": lambda repository: repository.time_created.isoformat(),
            "DISPLAYNAME": lambda repository: repository.display_name,
        },
        respond=respond,
    )


async def update_container_repository(request: Request) -> Response:
    """Change what is said about a repository."""
    details = await read_details(request, UpdateRepositoryDetails)
    repository = _repository(request)
    check_if_match(request, repository)
    given = {name: getattr(details, name) for name in details.model_fields_set}
    changed = {name: value for name, value in given.items() if value is not None}
    return await _shown(
        request, cloud_of(request).repositories.records.change(repository, **changed)
    )


async def delete_container_repository(request: Request) -> Response:
    """Delete a repository and its images."""
    registry, repository = registry_of(request), _repository(request)
    check_if_match(request, repository)
    await registry.remove(await registry.images([repository]))
    cloud_of(request).repositories.records.delete(repository.display_name)
    return empty_response()


def _repository(request: Request) -> Repository:
    return cloud_of(request).repositories.repository(request.path_params["repository_id"])


async def _shown(request: Request, repository: Repository) -> Response:
    (counted,) = await registry_of(request).counted([repository])
    return record_response(counted)


def _of_compartment(request: Request) -> list[Repository]:
    """The repositories that a list is about; the tenancy is the root of all compartments."""
    cloud = cloud_of(request)
    compartment = required_query(request, "compartmentId")
    subtree = request.query_params.get("compartmentIdInSubtree") == "true"
    everywhere = subtree and compartment == cloud.identity.tenancy
    return [
        repository
        for repository in cloud.repositories.records.scan()
        if everywhere or repository.compartment_id == compartment
    ]


# --- images -----------------------------------------------------------------------------------


async def get_container_image(request: Request) -> Response:
    """One image."""
    return record_response(await _image(request))


async def list_container_images(request: Request) -> Response:
    """Images of a compartment's repositories."""
    images = await registry_of(request).images(_of_compartment(request))
    return list_response(
        request,
        [image.summary() for image in images if _matches(request, image)],
        filters={
            "imageId": lambda image: image.id,
            "imageDigest": lambda image: image.digest,
            "displayName": lambda image: image.display_name,
            "repositoryId": lambda image: image.repository_id,
            "isVersioned": lambda image: str(image.version is not None).lower(),
            "lifecycleState": lambda image: image.lifecycle_state,
        },
        sort_fields={
            "TIMECREATED": lambda image: image.time_created.isoformat(),
            "DISPLAYNAME": lambda image: image.display_name,
        },
        respond=as_collection,
    )


async def delete_container_image(request: Request) -> Response:
    """Delete an image and its tags."""
    image = await _image(request)
    check_if_match(request, image)
    await registry_of(request).remove([image])
    return empty_response()


async def lookup_container_image_by_uri(request: Request) -> Response:
    """The image of `<namespace>/<repository>:<tag>` or `<namespace>/<repository>@<digest>`."""
    details = await read_details(request, LookupImageByUriDetails)
    registry = registry_of(request)
    name = parse_image_name(details.image_uri)
    repository = None if name is None else cloud_of(request).repositories.named(name.repository)
    if repository is None:
        raise not_found()
    digest = await registry.digest_of(f"{registry.host}/{details.image_uri}")
    images = await registry.images([repository])
    return record_response(_one(image for image in images if image.digest == digest))


async def _image(request: Request) -> Image:
    image_id = request.path_params["image_id"]
    repositories = [*cloud_of(request).repositories.records.scan()]
    images = await registry_of(request).images(repositories)
    return _one(image for image in images if image.id == image_id)


def _one(images: Iterable[Image]) -> Image:
    image = next(iter(images), None)
    if image is None:
        raise not_found()
    return image


def _matches(request: Request, image: Image) -> bool:
    """Whether an image fits the filters that can end with an asterisk."""
    repository = request.query_params.get("repositoryName", "*")
    version = request.query_params.get("version")
    return fnmatchcase(image.repository_name, repository) and (
        version is None or any(fnmatchcase(tag.version, version) for tag in image.versions)
    )


# --- configuration ----------------------------------------------------------------------------


async def get_container_configuration(request: Request) -> Response:
    """The tenancy's configuration, whatever the compartment."""
    required_query(request, "compartmentId")
    registry_of(request)
    return record_response(cloud_of(request).repositories.configuration)


async def update_container_configuration(request: Request) -> Response:
    """Change the tenancy's configuration."""
    required_query(request, "compartmentId")
    registry_of(request)
    details = await read_details(request, UpdateConfigurationDetails)
    repositories = cloud_of(request).repositories
    check_if_match(request, repositories.configuration)
    return record_response(repositories.configure(**details.model_dump(exclude_none=True)))


# --- tokens, and starting the registry --------------------------------------------------------


def registry_of(request: Request) -> ContainerRegistry:
    """The registry of the cloud that a request was sent to.

    Raises:
        ServiceError: 501, there is none.
    """
    registry = cloud_of(request).registry
    if registry is None:
        raise not_emulated("a container registry unless it is started with --registry")
    return registry


async def get_docker_token(request: Request) -> Response:
    """A token for the registry, as Docker asks for it with `service` and `scope`."""
    registry = registry_of(request)
    try:
        caller = registry.credentials.caller(signed_request(request.scope, body_is_signed=False))
        token = registry.token(caller, parse_scopes(request.query_params.getlist("scope")))
    except ServiceError as error:
        log_refusal(request.scope, error)
        return _refusal(error.status, "Unauthorized", "Unauthorized")
    except AnonymousError:
        return _refusal(
            403, "DENIED", "Anonymous users are only allowed read access on public repos"
        )
    return json_response(
        {
            "token": token,
            "access_token": token,
            "expires_in": int(REGISTRY_TOKEN_LIFETIME.total_seconds()),
        }
    )


def _refusal(status: int, code: str, message: str) -> Response:
    """A refusal in the words that users of OCIR see from Docker; its JSON is [inferred].

    They see "unknown: Unauthorized" after a wrong password and "denied: Anonymous users are only
    allowed read access on public repos" (oracle/docker-images#2551) without one.
    """
    return json_response({"errors": [{"code": code, "message": message}]}, status)


@from_here
async def start_registry(request: Request) -> Response:
    """Start a registry unless one runs; say where it is."""
    try:
        registry = await cloud_of(request).registry_switch.turn_on()
    except RegistryError as error:
        raise ServiceError(503, "ServiceUnavailable", str(error)) from error
    return json_response({"host": registry.host})


_REPOSITORIES = "/20160918/container/repositories"
_IMAGES = "/20160918/container/images"
_CONFIGURATION = "/20160918/container/configuration"
ROUTES = [
    Route(_REPOSITORIES, create_container_repository, methods=["POST"]),
    Route(_REPOSITORIES, list_container_repositories, methods=["GET"]),
    Route(f"{_REPOSITORIES}/{{repository_id}}", get_container_repository, methods=["GET"]),
    Route(f"{_REPOSITORIES}/{{repository_id}}", update_container_repository, methods=["PUT"]),
    Route(f"{_REPOSITORIES}/{{repository_id}}", delete_container_repository, methods=["DELETE"]),
    Route(f"{_IMAGES}/actions/lookupImageByUri", lookup_container_image_by_uri, methods=["POST"]),
    Route(_IMAGES, list_container_images, methods=["GET"]),
    Route(f"{_IMAGES}/{{image_id}}", get_container_image, methods=["GET"]),
    Route(f"{_IMAGES}/{{image_id}}", delete_container_image, methods=["DELETE"]),
    Route(_CONFIGURATION, get_container_configuration, methods=["GET"]),
    Route(_CONFIGURATION, update_container_configuration, methods=["PUT"]),
    Route(TOKEN_PATH, get_docker_token, methods=["GET"]),
]
LOCAL_ROUTES = [Route(f"{LOCAL_PREFIX}registry", start_registry, methods=["POST"])]
