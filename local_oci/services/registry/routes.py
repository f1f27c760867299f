"""HTTP of the Artifacts service: container repositories, images and configuration."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local_oci.http.errors import invalid_parameter, not_found
from local_oci.http.messages import (
    check_if_match,
    parse_details,
    read_details,
    required_query,
)
from local_oci.http.pages import Page, as_collection, list_response
from local_oci.http.responses import empty_response, record_response
from local_oci.http.retry_tokens import once
from local_oci.services.cloud import cloud_of
from local_oci.services.registry.models import (
    REPOSITORY_TYPE,
    CreateRepositoryDetails,
    Image,
    LookupImageByUriDetails,
    Repository,
    RepositorySummary,
    UpdateConfigurationDetails,
    UpdateRepositoryDetails,
)
from local_oci.services.registry.names import is_repository_name, parse_image_name
from local_oci.services.registry.token_routes import registry_of
from local_oci.storage.ids import new_ocid

# --- repositories -----------------------------------------------------------------------------


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
]
