"""Deleting models with all that belongs to them."""

from __future__ import annotations

import asyncio

from local_oci.http.errors import incorrect_state
from local_oci.services.catalog.models import Model, ModelState
from local_oci.services.cloud import Cloud
from local_oci.services.deployments.models import uses_model


def check_unused(cloud: Cloud, model: Model) -> None:
    """Refuse to delete a model that a deployment uses: 409."""
    if any(uses_model(deployment, model.id) for deployment in cloud.deployments.scan()):
        raise incorrect_state("A model deployment uses the model; delete the deployment first.")


async def delete(cloud: Cloud, model: Model) -> None:
    """Delete a model, its artifact and those of its metadata."""
    catalog = cloud.catalog
    artifact = catalog.artifacts.get(model.id)
    extras = list(catalog.metadatum_artifacts.below(f"{model.id}/"))
    catalog.models.change(model, lifecycle_state=ModelState.DELETED)
    catalog.artifacts.delete(model.id)
    for extra in extras:
        catalog.metadatum_artifacts.delete(extra.key)
    for stored in ([] if artifact is None else [artifact]) + extras:
        await asyncio.to_thread(cloud.blobs.delete, stored.blob)
