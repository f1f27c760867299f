"""Which version of its set a model is.

[inferred] in all: versions are numbered from 1 in the order in which models came to a set, a model
that has a set keeps it, and a label is unique within a set.
"""

from __future__ import annotations

from typing import Any

from local_oci.http.errors import conflict, invalid_parameter
from local_oci.services.catalog.models import Model
from local_oci.services.catalog.store import Catalog


def place(catalog: Catalog, model: Model) -> Model:
    """Give a model that names a set its place in it.

    Raises:
        ServiceError: 400 without such a set, 409 if the label is taken.
    """
    if model.model_version_set_id is None:
        return model
    version_set = catalog.named_version_set(model.model_version_set_id)
    _check_label(catalog, model)
    version_set = catalog.version_sets.change(version_set, versions=version_set.versions + 1)
    return model.model_copy(
        update={
            "model_version_set_name": version_set.name,
            "version_id": version_set.versions,
        }
    )


def updated(catalog: Catalog, model: Model, changed: dict[str, Any]) -> Model:
    """A model with some fields changed, in its place.

    Raises:
        ServiceError: 400 if it would change its set, or as in `place`.
    """
    target = model.model_copy(update=changed)
    if target.model_version_set_id != model.model_version_set_id:
        if model.model_version_set_id is not None:
            raise invalid_parameter("modelVersionSetId: a model cannot leave its version set.")
        return place(catalog, target)
    if target.model_version_set_id is not None and target.version_label != model.version_label:
        _check_label(catalog, target)
    return target


def _check_label(catalog: Catalog, model: Model) -> None:
    if model.version_label is None:
        return
    for other in catalog.models_of(str(model.model_version_set_id)):
        if other.version_label == model.version_label and other.id != model.id:
            raise conflict(
                f"versionLabel: '{model.version_label}' is the label of {other.id} already."
            )
