"""GPU engines built by jobs of the local cloud: processes, with the stand-in toolchain."""

import contextlib
import json
import threading
from base64 import b64encode

import pytest
from oci.data_science import DataScienceClient
from oci.object_storage import ObjectStorageClient
from oci.vault import VaultsClient, models

from falconry.digests import DigestCache
from falconry.engine.manifest import read_manifest
from falconry.engine.mirror import ObjectStorageMirror
from falconry.engine.stage import EngineStage
from falconry.engine.toolchain import load_toolchains
from falconry.errors import DetachedOperation, EngineError
from falconry.jobs.follow import FollowTimes
from falconry.jobs.runner import JobRunner
from falconry.jobs.runs import BuildJobs
from falconry.pipeline import Workspace
from falconry.progress import Progress
from falconry.settings import load_settings
from local_oci.home import Home
from local_oci.runtime.images import ProcessImages
from tests.falconry.cloud.conftest import ROOT
from tests.hub_stand_in import REPOSITORY, REVISION, HubStandIn
from tests.stand_in_toolchain.process_image import stand_in_process_image

A10 = "NVIDIA A10, 580.65.06, 8.6"
# Saves the time that the answers take.
UNVERIFIED = "engine.verify=off"
QUICK = FollowTimes(log_pause_s=0.2, log_lateness_s=5.0)
KILLED_AT = (
    "looking for the engine in the mirror",
    "handing the checkpoint over",
    "waiting for the job's machine",
    "the job is running",
    "building the engine",
    "fetching from the mirror",
    "flushing to disk",
    "leaving the engine in the mirror",
)
# What each image's tools are to do, by the image's name.
IMAGES = {
    "job/toolchain:good": {},
    "job/toolchain:oom": {"STAND_IN_FAULT": "build:oom"},
    "job/toolchain:slow": {"STAND_IN_STEP_SECONDS": "0.2"},
    "job/toolchain:wrong": {"STAND_IN_FAULT": "ask engine:wrong"},
}


@pytest.fixture(scope="module")
def images(cloud, tmp_path_factory):
    """Process images of the toolchain, known to the cloud."""
    row = load_toolchains().row("25.10")
    directories = {
        name: stand_in_process_image(
            tmp_path_factory.mktemp("toolchain"), "25.10", row, STAND_IN_GPUS=A10, **told
        )
        for name, told in IMAGES.items()
    }
    ProcessImages(Home(cloud.directory).images).register(directories)


class Runner:
    """A build runner: a machine with a store of its own."""

    def __init__(self, directory, settings):
        self.settings = settings.model_copy(
            update={"engine": settings.engine.model_copy(update={"store": directory / "store"})}
        )
        self.workspace = Workspace(
            directory / "build", DigestCache(directory / "digests.json"), Progress()
        )
        self.steps = []

    def make(self, report=None):
        """Makes the engine as `make engine` does; gives its manifest."""

        def note(step, fraction):
            self.steps.append(step)
            if report:
                report(step)

        stage = self.stage()
        inputs = stage.inputs()
        return read_manifest(stage.make(stage.key(inputs), inputs, note).path)

    def stage(self):
        from falconry.cloud.session import session_of

        session = session_of(self.settings.cloud)
        mirror = ObjectStorageMirror(session, self.settings.engine.mirror)
        workspace = self.workspace
        runner = JobRunner(self.settings, workspace.build, workspace.digests, None, QUICK)
        return EngineStage(self.settings, self.workspace, lambda: mirror, runner)


@pytest.fixture
def new_runner(cloud, images, tmp_path, request):
    """Makes runners that share a bucket of the test's own."""
    bucket = request.node.name.replace("[", "-").replace("]", "")[:60]

    def make(image="good", words=UNVERIFIED):
        settings = load_settings(
            ROOT,
            "oci",
            recipe="tiny",
            overrides=f"cloud.config_file={cloud.directory}/config "
            f"cloud.emulator.directory={cloud.directory} engine.run=job "
            f"engine.mirror.bucket={bucket} engine.job.process_image=job/toolchain:{image} {words}",
        )
        made.append(Runner(tmp_path / str(len(made)), settings))
        return made[-1]

    made = []
    return make


@pytest.fixture
def client(session):
    return session.client(DataScienceClient)


@pytest.fixture
def job_runs(session, client, request):
    """Gives the runs that this test's jobs had, deleted ones too."""
    before = {run.id for run in client.list_job_runs(session.compartment_id).data}

    def runs():
        found = client.list_job_runs(session.compartment_id, limit=1000).data
        return [run for run in found if run.id not in before]

    return runs


def sizes(runner, session):
    """The objects in a runner's bucket, with their sizes."""
    client = session.client(ObjectStorageClient)
    bucket = runner.settings.engine.mirror.bucket
    listed = client.list_objects(client.get_namespace().data, bucket, fields="name,size").data
    return {each.name: each.size for each in listed.objects}


class KilledError(BaseException):
    """What a runner that is killed does not catch."""


def raise_at(step, error):
    """A report that raises at a step."""

    def report(said):
        if said == step:
            raise error

    return report


def test_a_job_builds_what_a_host_would_whatever_is_lost_on_the_way(
    new_runner, cloud, session, client, job_runs
):
    for operation in ("create_job", "create_job_run"):
        cloud.fault(kind="cut_response", operation=operation)
    for step in KILLED_AT:
        killed = new_runner(words="engine.job.storage_gb=77")
        with pytest.raises(KilledError):
            killed.make(raise_at(step, KilledError()))
    (run,) = job_runs()
    job = client.get_job(run.job_id).data
    assert job.job_infrastructure_configuration_details.block_storage_size_in_gbs == 77
    variables = job.job_configuration_details.environment_variables
    assert set(json.loads(variables["FALCONRY_JOB"])) == {
        *("namespace", "bucket", "request", "image", "endpoint")
    }

    runner = new_runner(words="")
    manifest = runner.make()

    host = new_runner(words="engine.run=host").stage()
    assert manifest.key == host.key(host.inputs()) == job.freeform_tags["falconry-engine"]
    assert manifest.gpu.gpu == "NVIDIA A10" and manifest.gpu.verified == "transformers"
    assert {"rank0.engine", "config.json", "tokenizer.json"} <= set(manifest.files)
    # The engine is in the mirror with the manifest, and the job is gone.
    assert f"engines/{manifest.key}/manifest.json" in sizes(runner, session)
    assert [each.lifecycle_state for each in job_runs()] == ["DELETED"]
    assert client.get_job(run.job_id).data.lifecycle_state == "DELETED"

    assert new_runner().make().files == manifest.files
    assert len(job_runs()) == 1


def test_two_runners_join_the_run_of_a_killed_one(new_runner, job_runs):
    with pytest.raises(KilledError):
        new_runner("slow").make(raise_at("the job is running", KilledError()))
    runners, made = [new_runner("slow"), new_runner("slow")], []
    threads = [
        threading.Thread(target=lambda runner=runner: made.append(runner.make()))
        for runner in runners
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 2 and made[0].files == made[1].files
    assert any(step.startswith("joining the job run") for step in runners[0].steps)
    assert len(job_runs()) == 1


def test_two_runners_at_once_begin_one_run(new_runner, session, job_runs):
    """Each has looked for a run before the other began one."""
    runners, started = [new_runner("slow"), new_runner("slow")], threading.Barrier(2)

    def begin(runner):
        def meet(step):
            if runner.steps.count("handing the checkpoint over") == 1:
                started.wait(30)
            if step == "waiting for the job's machine":
                raise KilledError

        with contextlib.suppress(KilledError):
            runner.make(meet)

    threads = [threading.Thread(target=begin, args=(runner,)) for runner in runners]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (run,) = job_runs()
    BuildJobs(session).cancel(run.id)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub with the recipe's checkpoint; the runner has a token of its own for it."""
    checkpoint = ROOT / "checkpoints/tiny-falcon"
    files = {path.name: path.read_bytes() for path in checkpoint.iterdir() if path.is_file()}
    with HubStandIn(files) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
        monkeypatch.setenv("HF_TOKEN", "hf_of_the_runner")
        yield hub


@pytest.fixture
def secret(session):
    """A Vault secret with a token for the hub."""
    content = models.Base64SecretContentDetails(content=b64encode(b"hf_of_the_job").decode())
    details = models.CreateSecretDetails(
        compartment_id=session.compartment_id,
        secret_name="hub",
        vault_id="ocid1.vault.oc1..a",
        secret_content=content,
        key_id="ocid1.key.oc1..a",
    )
    return session.client(VaultsClient).create_secret(details).data.id


def test_a_failed_build_says_its_cause_and_leaves_no_job(
    new_runner, session, hub, secret, job_runs
):
    """Its checkpoint is the hub's: the weights come to the job only, with the secret's token."""
    runner = new_runner("oom", f"{UNVERIFIED} engine.job.hub_token_secret={secret}")
    runner.settings = runner.settings.model_copy(
        update={"checkpoint": f"hub:{REPOSITORY}@{REVISION}"}
    )
    with pytest.raises(EngineError) as failure:
        runner.make()
    asked = [headers.get("Authorization") for headers in hub.asked("GET", "model.safetensors")]
    assert asked == ["Bearer hf_of_the_runner", "Bearer hf_of_the_job"]
    largest = len(hub.files["model.safetensors"])
    assert all(size < largest for size in sizes(runner, session).values())
    (log,) = (runner.workspace.build / "logs").iterdir()
    assert "fetched" in log.read_text() and "hf_of" not in log.read_text()
    assert "memory" in str(failure.value) and "exit code" in str(failure.value)
    assert [run.lifecycle_state for run in job_runs()] == ["DELETED"]


def test_a_machine_that_is_not_to_be_had_is_named(new_runner, cloud, job_runs):
    cloud.fault(kind="no_capacity", operation="create_job_run")
    with pytest.raises(EngineError, match="no capacity"):
        new_runner().make()
    assert [run.lifecycle_state for run in job_runs()] == ["DELETED"]


def test_an_interrupted_run_continues_until_it_is_cancelled(new_runner, session, job_runs):
    runner = new_runner("slow")
    with pytest.raises(DetachedOperation) as left:
        runner.make(raise_at("the job is running", KeyboardInterrupt()))
    (run,) = job_runs()
    assert run.id in str(left.value) and "CANCEL=1" in str(left.value)
    stage = runner.stage()
    key = stage.key(stage.inputs())

    def cancel(step):
        if step == "the job is running":
            jobs = BuildJobs(session)
            jobs.cancel(jobs.running(key)[0].id)

    with pytest.raises(EngineError, match="cancelled"):
        runner.make(cancel)
    assert [run.lifecycle_state for run in job_runs()] == ["DELETED"]


def test_an_engine_that_answers_otherwise_is_not_taken_from_the_bucket_again(new_runner, session):
    runner = new_runner("wrong", words="")
    with pytest.raises(EngineError, match="answers differ"):
        runner.make()
    assert not [name for name in sizes(runner, session) if name.endswith(".result.json")]
