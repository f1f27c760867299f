"""The image stage with a real engine and real registries: built, pushed, pinned, and then not."""

import io
import json
import secrets
import time
import uuid
from dataclasses import replace

import pytest

from falconry.errors import ImageError
from falconry.image.ocir import OcirProvider
from falconry.image.registry import HostRegistry
from falconry.image.select import GivenImageStage
from falconry.image.server_images import BASES_LABEL, KEY_LABEL, ImageSource
from falconry.image.stage import ContainerImageStage
from falconry.oci_facts import load_limits
from falconry.pipeline import Step, Workspace, plan, run_stages
from falconry.progress import Progress
from falconry.settings import CloudSettings, EmulatorSettings, RegistrySettings
from tests.docker_engine import engine_events
from tests.falconry.image.small_image import SmallImages
from tests.registry_proxy import proxy_of

DOCKERFILE = """
ARG BASE
FROM ${BASE} AS build
COPY server/ /built/
FROM ${BASE}
COPY --from=build /built/ /opt/server/
USER 10001
ENTRYPOINT ["/opt/server/run"]
"""
LABELS = {
    "org.opencontainers.image.title": "an image of the tests",
    "org.opencontainers.image.licenses": "Apache-2.0",
}
STRANGER = "the registry has another image under its tag"
NOWHERE = "unix:///nowhere/docker.sock"


@pytest.fixture(scope="module")
def base(docker_client):
    """A small image that could be a server's base."""
    images = SmallImages(docker_client)
    tag = f"falconry-test/stage-base:{secrets.token_hex(4)}"
    images.build("LABEL stand-in=yes", tag=tag)
    yield tag
    images.remove()


@pytest.fixture(scope="module")
def source(base, docker_client):
    """What is built: a small image that no other run builds; it is removed in the end."""
    name = f"image-{secrets.token_hex(4)}"
    yield ImageSource(
        name=name,
        version="1.0",
        dockerfile=DOCKERFILE,
        files={"server/run": uuid.uuid4().bytes},
        bases={"BASE": base},
        labels=LABELS,
    )
    for image in docker_client.images.list():
        for tag in image.tags:
            if f"/{name}" in tag:
                docker_client.images.remove(tag)


@pytest.fixture(scope="module")
def builds(tmp_path_factory):
    """The directory of all profiles' outputs."""
    return tmp_path_factory.mktemp("build")


@pytest.fixture
def workspace(builds):
    """Makes workspaces, each of a profile that never ran."""

    def make(build=None):
        return Workspace.open((build or builds) / secrets.token_hex(4), Progress(io.StringIO()))

    return make


def stage(source, door, workspace):
    return ContainerImageStage(source, door, workspace, None)


def run(source, door, workspace):
    """Brings the image up to date as `make image` does."""
    step = Step("image", lambda _: stage(source, door, workspace))
    return run_stages([step], workspace)


def planned(source, door, workspace):
    """Whether it would run, and why, as `make plan` says."""
    step = Step("image", lambda _: stage(source, door, workspace))
    (found,) = plan([step], workspace)
    return found.runs, found.why


@pytest.fixture
def locked_door(locked_registry, docker_login):
    """The registry that asks for a password, logged in to by `docker login`."""
    docker_login(locked_registry.host, *locked_registry.login)
    prefix = f"tests/{secrets.token_hex(4)}"
    return HostRegistry(RegistrySettings(host=locked_registry.host, prefix=prefix))


def test_an_image_is_pushed_and_pinned_by_the_digest_that_the_registry_has(
    docker_host, docker_client, source, locked_door, locked_registry, workspace
):
    made = run(source, locked_door, workspace())
    repository = locked_door.repository(source.name)
    assert made.reference.startswith(f"{locked_registry.host}/{repository}:1.0-")
    tag = made.reference.rpartition(":")[2]
    assert made.digest == locked_registry.digest(repository, tag)
    assert (made.kind, made.pinned) == ("container", f"{made.reference}@{made.digest}")
    key = docker_client.images.get(made.reference).labels[KEY_LABEL]
    assert tag == f"1.0-{key[:12]}"
    # What it is copied from is kept, and found by the same label; it is not pushed.
    stage_image = docker_client.images.get(f"{made.reference}-build")
    assert stage_image.labels[KEY_LABEL] == key
    tags = locked_registry.ask("GET", f"{repository}/tags/list").json()["tags"]
    assert tags == [tag]


def test_with_the_image_in_the_registry_nothing_is_done_and_no_engine_is_needed(
    docker_host, source, open_registry, docker_login, workspace, tmp_path, monkeypatch
):
    with proxy_of(open_registry) as proxy:
        door = HostRegistry(RegistrySettings(host=proxy.host, prefix="tests"))
        here = workspace()
        made = run(source, door, here)
        asked = len(proxy.asked)
        monkeypatch.setenv("DOCKER_HOST", NOWHERE)
        # Here, and from an empty directory, as a fresh runner has it.
        for place in (here, workspace(tmp_path)):
            assert run(source, door, place) == made
            runs, _ = planned(source, door, place)
            assert not runs
        assert {method for method, *_ in proxy.asked[asked:]} == {"GET"}
        # What the image says of itself is read once, by the fresh runner.
        assert sum("/blobs/" in path for _, path, _ in proxy.asked[asked:]) == 1


def test_a_second_run_changes_nothing_in_the_engine(
    docker_host, docker_client, source, locked_door, workspace
):
    here = workspace()
    made = run(source, locked_door, here)
    with engine_events(docker_client, source.name) as events:
        assert run(source, locked_door, here) == made
    assert events == []


def test_another_image_under_the_tag_is_not_taken_for_ours(
    docker_host, source, locked_door, locked_registry, workspace
):
    here = workspace()
    made = run(source, locked_door, here)
    repository, tag = locked_door.repository(source.name), made.reference.rpartition(":")[2]
    other = locked_registry.push(repository, tag, b"another")
    assert planned(source, locked_door, here) == (True, STRANGER)
    assert run(source, locked_door, here).digest == made.digest != other
    assert locked_registry.digest(repository, tag) == made.digest


@pytest.mark.parametrize("labels", [None, {KEY_LABEL: 64 * "0"}])
def test_a_fresh_runner_takes_no_image_whose_label_is_not_the_tags_key_for_ours(
    docker_host, source, locked_door, locked_registry, workspace, labels
):
    made = run(source, locked_door, workspace())
    repository, tag = locked_door.repository(source.name), made.reference.rpartition(":")[2]
    other = locked_registry.push(repository, tag, b"another", labels=labels)
    here = workspace()
    assert planned(source, locked_door, here) == (True, STRANGER)
    assert run(source, locked_door, here).digest == made.digest != other
    assert locked_registry.digest(repository, tag) == made.digest


def test_an_image_that_another_runner_built_of_the_same_is_taken(
    docker_host, docker_client, source, locked_door, locked_registry, workspace
):
    made = run(source, locked_door, workspace())
    repository, tag = locked_door.repository(source.name), made.reference.rpartition(":")[2]
    key = docker_client.images.get(made.reference).labels[KEY_LABEL]
    theirs = locked_registry.push(repository, tag, b"theirs", labels={KEY_LABEL: key})
    assert run(source, locked_door, workspace()).digest == theirs != made.digest


def test_an_image_that_the_registry_lost_is_pushed_again(
    docker_host, source, locked_door, locked_registry, workspace
):
    here = workspace()
    made = run(source, locked_door, here)
    repository = locked_door.repository(source.name)
    assert locked_registry.ask("DELETE", f"{repository}/manifests/{made.digest}").ok
    assert run(source, locked_door, here).digest == made.digest
    assert locked_registry.digest(repository, made.digest) == made.digest


def receipt_of(workspace, source):
    return json.loads((workspace.build / f"receipts/image-{source.name}.json").read_text())


def test_a_base_without_a_registry_is_its_id_in_label_and_receipt(
    docker_host, docker_client, base, source, locked_door, workspace
):
    here = workspace()
    made = run(source, locked_door, here)
    pinned = f"{base}@{docker_client.images.get(base).id}"
    labels = docker_client.images.get(made.reference).labels
    assert labels[BASES_LABEL] == f"BASE={pinned}"
    assert labels["org.opencontainers.image.base.name"] == base
    assert "org.opencontainers.image.base.digest" not in labels
    assert receipt_of(here, source)["found"] == {"BASE": pinned}


def test_a_base_of_a_registry_is_its_digest_although_its_tag_moved(
    docker_host, docker_client, base, source, open_registry, locked_door, workspace
):
    tag = f"{open_registry.host}/tests/moving-{secrets.token_hex(4)}:1"
    docker_client.images.get(base).tag(tag)
    docker_client.api.push(tag)
    repository = tag.partition("/")[2].rpartition(":")[0]
    digest = open_registry.digest(repository, "1")
    assert open_registry.push(repository, "1", b"another base") != digest
    here = workspace()
    moving = replace(source, name=f"{source.name}-moving", bases={"BASE": tag})
    made = run(moving, locked_door, here)
    labels = docker_client.images.get(made.reference).labels
    assert labels["org.opencontainers.image.base.digest"] == digest
    assert receipt_of(here, moving)["found"] == {"BASE": f"{tag}@{digest}"}
    # A runner that finds the image pushed reads the same in its labels.
    fresh = workspace()
    assert run(moving, locked_door, fresh).digest == made.digest
    assert receipt_of(fresh, moving)["found"] == {"BASE": f"{tag}@{digest}"}
    docker_client.images.remove(tag, force=True)


def test_the_parts_and_licences_of_what_is_built_lie_beside_the_receipt(
    docker_host, source, locked_door, workspace
):
    here = workspace()
    listed = replace(source, name=f"{source.name}-listed")
    run(listed, locked_door, here)
    parts = here.build / f"receipts/image-{listed.name}.cdx.json"
    licences = parts.with_name(f"image-{listed.name}.licences.txt")
    document = json.loads(parts.read_text())
    assert document["bomFormat"] == "CycloneDX"
    found = {each["name"]: each.get("version") for each in document["components"]}
    assert (found["libc6"], found["aiohttp"]) == ("2.36-9", "3.14.5")
    assert "LGPL-2.1-only\n    libc6 2.36-9\n" in licences.read_text()
    assert {parts.name, licences.name} < set(receipt_of(here, listed)["files"])


def test_a_wrong_password_is_told_before_anything_is_built(
    docker_host, docker_client, source, locked_registry, workspace, docker_login
):
    user, password = locked_registry.login
    docker_login(locked_registry.host, user, f"{password}x")
    door = HostRegistry(RegistrySettings(host=locked_registry.host, prefix="elsewhere"))
    started = time.monotonic()
    with pytest.raises(ImageError, match="the registry does not accept the login") as raised:
        run(source, door, workspace())
    assert time.monotonic() - started < 5
    assert "\n" not in str(raised.value)
    assert password not in str(raised.value)
    assert docker_client.images.list(f"{locked_registry.host}/elsewhere/{source.name}") == []


def test_a_token_of_the_environment_wins_over_docker_login(
    docker_host, source, locked_registry, workspace, docker_login, monkeypatch
):
    user, password = locked_registry.login
    docker_login(locked_registry.host, user, "wrong")
    monkeypatch.setenv("OCIR_AUTH_TOKEN", password)
    settings = RegistrySettings(host=locked_registry.host, prefix="tests", username=user)
    assert run(source, HostRegistry(settings), workspace()).digest.startswith("sha256:")


def test_an_image_that_fails_the_preflight_is_not_pushed(
    docker_host, source, locked_door, locked_registry, workspace, monkeypatch
):
    planted = f"planted-{secrets.token_hex(12)}"
    monkeypatch.setenv("HF_TOKEN", planted)
    bad = ImageSource(
        name=f"{source.name}-bad",
        version="1.0",
        dockerfile=f"{source.dockerfile}ENV GREETING={planted}\n",
        files=source.files,
        bases=source.bases,
        labels=LABELS,
    )
    with pytest.raises(ImageError) as raised:
        run(bad, locked_door, workspace())
    assert planted not in str(raised.value)
    answer = locked_registry.ask("GET", f"{locked_door.repository(bad.name)}/tags/list")
    assert answer.status_code == 404


def test_an_image_of_doubtful_size_is_pushed_with_a_warning(
    docker_host, source, locked_door, builds, monkeypatch
):
    small = load_limits().image.model_copy(update={"compressed_bytes": 1000})
    limits = load_limits().model_copy(update={"image": small})
    monkeypatch.setattr("falconry.image.image_checks.load_limits", lambda: limits)
    large = replace(source, name=f"{source.name}-large")
    said = io.StringIO()
    run(large, locked_door, Workspace.open(builds / secrets.token_hex(4), Progress(said)))
    assert "warning: it has" in said.getvalue()
    assert "the deployment may be refused; " in said.getvalue()
    assert "engine.toolchain 26.07" in said.getvalue()


# --- the cloud's registry ---------------------------------------------------------------------


@pytest.fixture
def cloud(registry_cloud):
    """The settings of the cloud with a container registry."""
    return CloudSettings(
        config_file=registry_cloud.directory / "config",
        project="tests",
        log_group="tests",
        log="tests",
        emulator=EmulatorSettings(directory=registry_cloud.directory),
    )


def test_the_clouds_registry_has_the_image_in_the_profiles_compartment(
    docker_host, source, cloud, registry_sdk, workspace, tmp_path
):
    compartment = f"ocid1.compartment.oc1..{uuid.uuid4().hex}"
    settings = RegistrySettings(prefix="tests", compartment_id=compartment)
    door = OcirProvider(cloud, settings, tmp_path / "namespaces")
    made = run(source, door, workspace())
    (image,) = registry_sdk.artifacts.list_container_images(
        compartment, repository_name=f"tests/{source.name}"
    ).data.items
    assert image.digest == made.digest
    assert run(source, door, workspace()) == made


def test_a_cloud_that_does_not_run_is_not_started_to_plan(source, tmp_path, workspace):
    cloud = CloudSettings(
        config_file=tmp_path / "config",
        project="tests",
        log_group="tests",
        log="tests",
        emulator=EmulatorSettings(directory=tmp_path / "cloud"),
    )
    door = OcirProvider(cloud, RegistrySettings(prefix="tests"), tmp_path / "namespaces")
    assert planned(source, door, workspace())[0] is True
    assert not (tmp_path / "cloud").exists()


# --- an image of the user's own ---------------------------------------------------------------


def given(reference, door, workspace):
    step = Step("image", lambda _: GivenImageStage(reference, door))
    return run_stages([step], workspace)


@pytest.fixture
def stored(locked_registry):
    """Reference and digest of an image that somebody pushed."""
    repository = f"somebody/{secrets.token_hex(4)}"
    digest = locked_registry.push(repository, "3", b"a layer")
    return f"{locked_registry.host}/{repository}:3", digest


def test_a_given_image_is_pinned_and_no_engine_is_needed(
    stored, locked_door, workspace, monkeypatch
):
    monkeypatch.setenv("DOCKER_HOST", NOWHERE)
    reference, digest = stored
    found = given(reference, locked_door, workspace())
    assert (found.reference, found.digest, found.kind) == (reference, digest, "container")


def test_a_given_image_may_be_pinned_already(stored, locked_door, workspace):
    reference, digest = stored
    found = given(f"{reference}@{digest}", locked_door, workspace())
    assert (found.reference, found.digest) == (reference, digest)
    other = f"sha256:{64 * 'a'}"
    with pytest.raises(ImageError, match="no such image"):
        given(f"{reference}@{other}", locked_door, workspace())


def test_a_given_image_that_is_not_there_is_told(stored, locked_door, workspace):
    with pytest.raises(ImageError, match="the registry has no such image") as raised:
        given(f"{stored[0]}0", locked_door, workspace())
    assert "image.reference" in raised.value.remedy


def test_a_given_image_of_another_registry_has_that_ones_login(
    stored, locked_registry, docker_login, workspace, open_registry
):
    docker_login(locked_registry.host, *locked_registry.login)
    elsewhere = HostRegistry(RegistrySettings(host=open_registry.host, prefix="tests"))
    assert given(stored[0], elsewhere, workspace()).digest == stored[1]
    docker_login(locked_registry.host, "nobody", "wrong")
    with pytest.raises(ImageError, match="does not accept the login"):
        given(stored[0], elsewhere, workspace())
