"""Shapes that the table does not know, read from the service's own list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from falconry.errors import CloudError
from falconry.oci_facts import (
    CpuShape,
    GpuShape,
    Shape,
    UnusableShape,
    find_shape,
    no_gpu_shape,
    shape_of_family,
)

if TYPE_CHECKING:
    from falconry.cloud.session import Session
    from falconry.settings import Settings

_LISTED = "list_model_deployment_shapes"


def offered_shape(session: Session, name: str) -> Shape | None:
    """Finds a shape in the service's list; None if the region does not offer it.

    The list tells a GPU shape's cores and memory only; its GPUs are those of its family in the
    table. Of a flexible shape it may tell the largest or the default size, so neither is a limit.

    Raises:
        CloudError: the list cannot be read.
    """
    from oci.data_science import DataScienceClient

    from falconry.cloud.retries import all_records
    from falconry.cloud.session import translate_cloud_errors

    client: Any = session.client(DataScienceClient)
    with translate_cloud_errors("reading the shapes of model deployments"):
        found = all_records(client.list_model_deployment_shapes, session.compartment_id)
    summary = next((each for each in found if each.name.casefold() == name.casefold()), None)
    return None if summary is None else _shape_of(summary)


def gpu_shape_of(settings: Settings) -> GpuShape:
    """Finds the profile's GPU shape, in the table or else in the service's list.

    Raises:
        SettingsError: engines for GPUs cannot run on it, or it is not known.
    """
    name = settings.deployment.shape
    shape, why = find_shape(name), "is not known here"
    if shape is None:
        from falconry.cloud.session import session_of

        try:
            shape = offered_shape(session_of(settings.cloud), name)
            why += ", and which the cloud does not offer"
        except CloudError as error:
            why += f" (the cloud's own list cannot be read: {error.problem})"
    if isinstance(shape, GpuShape):
        return shape
    raise no_gpu_shape(name, shape, why)


def _shape_of(summary: Any) -> Shape:
    name, series = str(summary.name), str(summary.shape_series)
    if series == "ARM":
        why = "has Arm processors, and server images are for linux/amd64"
        return UnusableShape(name=name, why=why, source=_LISTED)
    if series == "NVIDIA_GPU" or "GPU" in name:
        unknown = "has GPUs that engine/shapes.toml does not know: add the shape there"
        return shape_of_family(name) or UnusableShape(name=name, why=unknown, source=_LISTED)
    return CpuShape(
        name=name,
        ocpus=int(summary.core_count),
        memory_gib=float(summary.memory_in_gbs),
        flexible=name.endswith(".Flex"),
        source=_LISTED,
    )
