"""A local_oci of the tests' own, whose process image is a small server that starts at once."""

import dataclasses
import shlex
import sys
from pathlib import Path

import pytest

from falconry.artifact.contents import describe
from falconry.artifact.stage import ArtifactOutput
from falconry.artifact.view import ArtifactView
from falconry.cloud import session as session_module
from falconry.cloud import work_requests
from falconry.cloud.session import Session
from falconry.cloud.work_requests import Watch
from falconry.deployment import deployments as deployments_module
from falconry.deployment.catalog import Catalog
from falconry.deployment.deployments import Deployments
from falconry.deployment.logs import Logs
from falconry.deployment.provenance import ModelEntry, Provenance
from falconry.deployment.stage import DeploymentStage
from falconry.deployment.target import DeploymentRequest, target_of
from falconry.digests import DigestCache, bytes_digest
from falconry.engine.manifest import BuildRecord, write_manifest
from falconry.image.output import ImageOutput
from falconry.pipeline import Output
from falconry.settings import load_settings
from tests.engine_manifests import manifest_of
from tests.local_oci.support import LocalCloud

ROOT = Path(__file__).parents[3]
SERVER = Path(__file__).with_name("answering_server.py")


@pytest.fixture(scope="session")
def cloud(tmp_path_factory):
    """The running emulator."""
    base = tmp_path_factory.mktemp("cloud")
    launcher = base / "image" / "bin" / "tritonserver"
    launcher.parent.mkdir(parents=True)
    command = shlex.join([sys.executable, "-S", str(SERVER), "8000"])
    launcher.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    launcher.chmod(0o755)
    signals = base / "signals"  # what a test tells a server, whose root has no other files of it
    signals.mkdir()
    mounts = [sys.prefix, sys.base_prefix, str(SERVER), str(signals)]
    (base / "image" / "mounts").write_text("\n".join(mounts))
    image = load_settings(ROOT).image.process_image
    running = LocalCloud(base / "d", f"--image={image}={base / 'image'}", "--start-timeout=20")
    try:
        yield running.start()
    finally:
        running.stop()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    """Retries and looks follow each other quickly."""
    policy = dataclasses.replace(session_module._RETRIES, first_pause_s=0.02)
    monkeypatch.setattr(session_module, "_RETRIES", policy)
    monkeypatch.setattr(work_requests, "_POLL_S", (0.05, 0.2))
    monkeypatch.setattr(deployments_module, "_CONFLICT_PAUSE_S", 0.05)
    monkeypatch.setattr(deployments_module, "_SETTLE_PAUSE_S", 0.05)


@pytest.fixture(autouse=True)
def no_faults_left(request):
    """Faults that a test asked for end with it."""
    cloud = request.getfixturevalue("cloud") if "cloud" in request.fixturenames else None
    yield
    if cloud:
        cloud.forget_faults()


@pytest.fixture
def make_settings(cloud, request):
    """Makes the default profile, for this cloud, with names of the test's own."""

    def make(words=""):
        return load_settings(
            ROOT,
            overrides=f"cloud.config_file={cloud.directory}/config "
            f"cloud.emulator.directory={cloud.directory} deployment.name={request.node.name[:60]} "
            + words,
        )

    return make


@pytest.fixture
def settings(make_settings):
    return make_settings()


@pytest.fixture
def session(settings):
    return Session(settings.cloud)


@pytest.fixture
def make_artifact(tmp_path, request):
    """Makes an artifact whose model behaves as a word says, see `answering_server`."""

    def make(behaviour, name="artifact"):
        repository = tmp_path / name
        repository.mkdir(exist_ok=True)
        (repository / "behaviour").write_text(behaviour)
        (repository / "test").write_text(request.node.name)
        (repository / "echo" / "1").mkdir(parents=True, exist_ok=True)
        (repository / "echo" / "1" / "model.py").write_text("")
        (repository / "echo" / "config.pbtxt").write_text('name: "echo"\n')
        digests = DigestCache(tmp_path / f"{name}-digests.json")
        contents = describe(repository, digests, quiet)
        place = tmp_path / f"{name}.json"
        place.write_bytes(contents.encoded())
        return ArtifactOutput(place, contents.digest, "", repository=repository, digests=digests)

    return make


def content(artifact):
    """The bytes of an artifact."""
    view = artifact.view()
    return bytes(view.read(0, view.size))


def quiet(step, fraction):
    pass


def entry(artifact, **values):
    """A catalog entry for an artifact."""
    return ModelEntry(
        **{
            "artifact_digest": artifact.digest,
            "name": "a model",
            "description": "for a test",
            "environment": {"openvino": "2025.4"},
            "facts": {"license": "apache-2.0"},
            "provenance": Provenance(),
            **values,
        }
    )


WATCH = Watch(60, quiet)


@pytest.fixture
def make_model(session, make_artifact):
    """Makes a catalog model with an artifact of its own; its server answers with the word."""

    def make(behaviour):
        artifact = make_artifact(behaviour, behaviour)
        return Catalog(session).ensure(entry(artifact), artifact.view(), quiet)

    return make


@pytest.fixture
def make_wanted(settings, session, make_model):
    """Makes what a deployment shall be; values replace those of the profile."""

    def make(model="first", **values):
        return DeploymentRequest(
            **{
                "settings": settings.deployment,
                "serving": settings.serving,
                "image": ImageOutput(
                    path=Path(),
                    digest="sha256:" + "0" * 64,
                    summary="",
                    reference=settings.image.process_image,
                    kind="process",
                ),
                "model_id": make_model(model),
                "project_id": Catalog(session).project(),
                "log": Logs(session).ensure(),
                "tags": {"falconry-key": model},
                **values,
            }
        )

    return make


@pytest.fixture
def make_target(make_wanted):
    def make(model="first", **values):
        return target_of(make_wanted(model, **values))

    return make


@pytest.fixture
def engine(tmp_path):
    """An engine that is there, and that nothing can load."""
    directory = tmp_path / "engine"
    files = {"rank0.engine": b"weights"}
    directory.mkdir()
    (directory / "rank0.engine").write_bytes(files["rank0.engine"])
    record = BuildRecord(built_at="2026-01-01T00:00:00+00:00", seconds=1.0, host="here")
    write_manifest(directory, manifest_of("e" * 64, files), record)
    return directory


@pytest.fixture
def image(settings, cloud):
    """What the deployments run."""
    return ImageOutput(
        path=cloud.directory.parent / "image",
        digest="sha256:" + "1" * 64,
        summary="",
        reference=settings.image.process_image,
        kind="process",
    )


@pytest.fixture
def make_stage(settings, engine, make_artifact, image):
    """Makes the stage for an artifact whose server answers with a word."""

    def make(behaviour, **options):
        manifest = bytes_digest((engine / "manifest.json").read_bytes())
        return DeploymentStage(
            options.pop("settings", settings),
            Output(engine, manifest, ""),
            make_artifact(behaviour, behaviour),
            image,
            **options,
        )

    return make


def run(stage, report=quiet):
    """Runs a stage as the pipeline does."""
    inputs = stage.inputs()
    key = stage.key(inputs)
    return stage.find(key) or stage.make(key, inputs, report)


@pytest.fixture
def deployments(session, settings, cloud):
    """The deployments; those of the test are deleted at the end."""
    made = Deployments(session)
    yield made
    cloud.forget_faults()
    while made.remove(settings.deployment.name, WATCH):
        pass


@pytest.fixture
def make_view(tmp_path):
    """Makes artifacts of repositories with one file."""

    def make(name, content):
        repository = tmp_path / name
        repository.mkdir()
        (repository / "name").write_bytes(content)
        digests = DigestCache(tmp_path / f"{name}.json")
        contents = describe(repository, digests, lambda step, fraction: None)
        return ArtifactView.open(repository, contents, digests)

    return make
