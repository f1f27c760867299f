"""HTTP of the artifacts of metadata: files that belong to items of it, such as a licence."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local_oci.http.bodies import blob_response, receive_blob
from local_oci.http.errors import conflict, not_found
from local_oci.http.messages import attachment, check_if_match, empty_response
from local_oci.http.middleware import UnsignedBody
from local_oci.services.catalog.models import Metadata, MetadatumArtifact, Model
from local_oci.services.catalog.store import Catalog
from local_oci.services.cloud import cloud_of


class Kind(StrEnum):
    """The two lists of a model's metadata; the values are the SDK's names for them."""

    CUSTOM = "custom"
    DEFINED = "defined"

    @property
    def segment(self) -> str:
        """Its part of a path."""
        return f"{self}Metadata"

    @property
    def field(self) -> str:
        """Its field of `Model`."""
        return f"{self}_metadata_list"


_SEGMENTS = "|".join(kind.segment for kind in Kind)
_PATH = re.compile(rf"/20190101/models/[^/]+/({_SEGMENTS})/[^/]+/artifact")
UNSIGNED_BODIES = [UnsignedBody("POST", _PATH), UnsignedBody("PUT", _PATH)]


@dataclass(frozen=True, slots=True)
class _Item:
    """The item of metadata that a path names; 404 if there is none."""

    catalog: Catalog
    model: Model
    kind: Kind
    metadata: Metadata

    @property
    def artifact(self) -> MetadatumArtifact | None:
        """Its artifact, if it has one."""
        key = f"{self.model.id}/{self.kind}/{self.metadata.key}"
        return self.catalog.metadatum_artifacts.get(key)

    def mark(self, *, has_artifact: bool) -> None:
        """Record whether the item has an artifact."""
        model = self.catalog.model(self.model.id)
        items = tuple(
            each.model_copy(update={"has_artifact": has_artifact})
            if each.key == self.metadata.key
            else each
            for each in getattr(model, self.kind.field)
        )
        self.catalog.models.change(model, **{self.kind.field: items})


async def create_metadatum_artifact(request: Request, kind: Kind) -> Response:
    """Store the artifact of an item that has none; 409 if it has [inferred]."""
    item = _item(request, kind)
    if item.artifact is not None:
        raise conflict("The metadata item has an artifact already; update it.")
    return await _store(request, item)


async def update_metadatum_artifact(request: Request, kind: Kind) -> Response:
    """Replace the artifact of an item."""
    item = _item(request, kind)
    _existing(item)
    return await _store(request, item)


async def get_metadatum_artifact_content(request: Request, kind: Kind) -> Response:
    """Send the artifact of an item; a HEAD gets the headers only."""
    artifact = _existing(_item(request, kind))
    blobs = cloud_of(request).blobs
    return blob_response(request, blobs, artifact.blob, artifact.size, artifact.headers)


async def delete_metadatum_artifact(request: Request, kind: Kind) -> Response:
    """Delete the artifact of an item; the item stays."""
    item = _item(request, kind)
    artifact = _existing(item)
    check_if_match(request, artifact)
    item.catalog.metadatum_artifacts.delete(artifact.key)
    item.mark(has_artifact=False)
    await asyncio.to_thread(cloud_of(request).blobs.delete, artifact.blob)
    return empty_response()


async def _store(request: Request, item: _Item) -> Response:
    blobs = cloud_of(request).blobs
    previous = item.artifact
    if previous is not None:
        check_if_match(request, previous)
    blob = await receive_blob(request, blobs)
    name = str(item.metadata.key)
    artifact = item.catalog.metadatum_artifacts.put(
        MetadatumArtifact(
            model_id=item.model.id,
            kind=item.kind,
            metadatum=name,
            blob=blob.name,
            size=blob.size,
            md5=blob.md5,
            content_disposition=request.headers.get("content-disposition", attachment(name)),
        )
    )
    item.mark(has_artifact=True)
    if previous is not None:
        await asyncio.to_thread(blobs.delete, previous.blob)
    return empty_response(204, {"etag": artifact.etag})


def _item(request: Request, kind: Kind) -> _Item:
    catalog = cloud_of(request).catalog
    model = catalog.model(request.path_params["model_id"])
    items: tuple[Metadata, ...] = getattr(model, kind.field)
    found = next(
        (metadata for metadata in items if metadata.key == request.path_params["key"]), None
    )
    if found is None:
        raise not_found()
    return _Item(catalog, model, kind, found)


def _existing(item: _Item) -> MetadatumArtifact:
    artifact = item.artifact
    if artifact is None:
        raise not_found()
    return artifact


def _routes(kind: Kind) -> Iterator[Route]:
    artifact = f"/20190101/models/{{model_id}}/{kind.segment}/{{key}}/artifact"
    content = f"{artifact}/content"
    subject = f"model_{kind}_metadatum_artifact"
    for name, path, handler, method in (
        (f"create_{subject}", artifact, create_metadatum_artifact, "POST"),
        (f"update_{subject}", artifact, update_metadatum_artifact, "PUT"),
        (f"delete_{subject}", artifact, delete_metadatum_artifact, "DELETE"),
        (f"get_{subject}_content", content, get_metadatum_artifact_content, "GET"),
    ):
        yield Route(path, partial(handler, kind=kind), methods=[method], name=name)


ROUTES = [route for kind in Kind for route in _routes(kind)]
