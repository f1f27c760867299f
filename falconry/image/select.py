"""Which image stage a profile's settings ask for."""

from __future__ import annotations

from falconry.errors import SettingsError
from falconry.image.choice import Choice, choose
from falconry.image.place import Door
from falconry.pipeline import Stage, Workspace
from falconry.settings import Settings

_PROCESS_IMAGE = "process-image"


def image_stage(settings: Settings, workspace: Workspace, door: Door) -> Stage:
    """The stage that brings about the image which deployments run.

    Args:
        settings: the profile.
        workspace: where to work.
        door: to the registry.

    Raises:
        SettingsError: settings that exclude each other, or one that is missing.
    """
    # Each kind is imported where it is chosen: none needs the others' registry, parts and bases.
    wanted = settings.image
    if wanted.reference:
        from falconry.image.given_stage import GivenImageStage

        return GivenImageStage(wanted.reference, door)
    may_choose = settings.cloud.emulator and not wanted.compose
    choice = choose(wanted) if may_choose else Choice("container")
    if choice.kind == "process":
        from falconry.image.process_stage import ProcessImageStage

        if wanted.process_image is None:
            raise SettingsError("a process image needs a name", where="image.process_image")
        directory = workspace.build / _PROCESS_IMAGE
        return ProcessImageStage(wanted.process_image, directory, choice.reason)
    from falconry.image.certificates import certificate_bundle
    from falconry.image.server_images import server_image
    from falconry.image.stage import ContainerImageStage

    bundle = certificate_bundle(wanted.ca_bundle)
    return ContainerImageStage(server_image(settings), door, workspace, bundle)
