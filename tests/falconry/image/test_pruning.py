"""Old images leave the Docker engine, and those that somebody needs stay."""

import io
import json
import secrets
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import pytest
from docker.errors import ImageNotFound

from falconry.docker_engine import images
from falconry.errors import MachineError
from falconry.image import stage as pruning
from falconry.pipeline import Receipt
from falconry.progress import Progress
from falconry.project import Project
from falconry.settings import load_settings
from tests.docker_images import archive
from tests.local_oci.registry_client import digest_of

ROOT = Path(__file__).parents[3]
KEYS = ["oldest", "old", "new", "newest"]


@pytest.fixture
def label(monkeypatch):
    """A label of the test's own in place of KEY_LABEL: the engine may hold images of others."""
    label = f"io.falconry.test-{secrets.token_hex(4)}"
    monkeypatch.setattr(pruning, "KEY_LABEL", label)
    return label


@pytest.fixture
def loaded(docker_host, docker_client, label):
    """Images that were built on one day after the other, by their key; gone in the end."""
    made = {key: _load(docker_client, label, key, day) for day, key in enumerate(KEYS, start=1)}
    yield made
    for image in made.values():
        if _is_there(docker_client, image):
            docker_client.images.remove(image, force=True)


def _load(client, label, key, day, stage=""):
    """Loads an image (OCI image specification, config.md); gives its id."""
    layer = archive({"key": f"{label} {key} {stage}".encode()}).read()
    configuration = json.dumps(
        {
            "created": f"2026-01-{day:02}T00:00:00Z",
            "architecture": "amd64",
            "os": "linux",
            "config": {"Labels": {label: key}, "Cmd": ["/none"]},
            "rootfs": {
                "type": "layers",
                "diff_ids": [digest_of(layer)],
            },
        }
    ).encode()
    tags = [f"{label}/{key}:{number}{stage}" for number in (1, 2)]
    manifest = [{"Config": "config.json", "RepoTags": tags, "Layers": ["layer.tar"]}]
    files = {
        "config.json": configuration,
        "layer.tar": layer,
        "manifest.json": json.dumps(manifest).encode(),
    }
    return client.images.load(archive(files))[0].id


def _is_there(client, image):
    try:
        return bool(client.images.get(image))
    except ImageNotFound:
        return False


def _left(client, made):
    return [key for key in KEYS if _is_there(client, made[key])]


def test_all_go_but_the_newest_with_all_their_names(docker_client, loaded):
    gone = pruning.prune_images(2, set())
    assert [pruned.facts()["key"] for pruned in gone] == ["old", "oldest"]
    assert _left(docker_client, loaded) == ["new", "newest"]
    assert gone[1].image.created == datetime(2026, 1, 1, tzinfo=UTC)
    assert "/oldest:1  2026-01-01 00:00 UTC" in str(gone[1])
    assert pruning.prune_images(2, set()) == []


def test_a_build_stage_goes_and_stays_with_its_image(docker_client, loaded, label):
    """Though it is the newest image, and no container is made from it."""
    stages = {
        key: _load(docker_client, label, key, day, "-build")
        for key, day in (("old", 9), ("new", 8))
    }
    container = docker_client.containers.create(loaded["new"])
    try:
        gone = pruning.prune_images(1, set())
    finally:
        container.remove()
        docker_client.images.remove(stages["new"], force=True)
    # The stage of "old" is newer than the image of "newest", so "old" is the newest key.
    assert {pruned.facts()["key"] for pruned in gone} == {"newest", "oldest"}
    gone = pruning.prune_images(0, {"new"})
    assert sorted(pruned.facts()["image"].partition("/")[2] for pruned in gone) == [
        "old:1",
        "old:1-build",
    ]
    assert not _is_there(docker_client, stages["old"])


def test_what_a_receipt_or_a_container_needs_stays(docker_client, loaded):
    container = docker_client.containers.create(loaded["new"])
    try:
        gone = pruning.prune_images(0, {"oldest"})
    finally:
        container.remove()
    assert [pruned.facts()["key"] for pruned in gone] == ["newest", "old"]
    assert _left(docker_client, loaded) == ["oldest", "new"]


def test_what_any_profile_of_a_project_was_made_of_stays(
    docker_client, loaded, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for profile, key in (("local", "oldest"), ("oci", "old")):
        receipts = tmp_path / "build" / profile / "receipts"
        receipts.mkdir(parents=True)
        receipt = asdict(Receipt("image", key, {}, "", {}))
        (receipts / "image-triton.json").write_text(json.dumps(receipt))
    project = Project(load_settings(ROOT), Progress(io.StringIO()))
    assert [pruned.facts()["key"] for pruned in project.prune_images(1)] == ["new"]
    assert _left(docker_client, loaded) == ["oldest", "old", "newest"]
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    assert project.prune_images(1) == []


def test_an_image_that_is_taken_into_use_meanwhile_stays(docker_client, loaded, monkeypatch):
    containers = []

    def found_and_then_used(client, label, find=images.labelled_images):
        found = find(client, label)
        containers.append(docker_client.containers.create(loaded["newest"]))
        return found

    monkeypatch.setattr(pruning, "labelled_images", found_and_then_used)
    try:
        gone = pruning.prune_images(0, {"oldest", "old", "new"})
    finally:
        containers[0].remove()
    assert gone == []
    assert _left(docker_client, loaded) == KEYS


def test_without_an_engine_it_is_one_sentence(monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    with pytest.raises(MachineError, match="no Docker engine answers"):
        pruning.prune_images(1, set())
