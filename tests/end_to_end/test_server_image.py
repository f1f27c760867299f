"""The server image, as a user has it: built, pushed, run as a container, and then left alone."""

import re
import secrets
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests

from falconry.engine.toolchain import load_toolchains
from tests.docker_engine import engine_events
from tests.docker_images import archive, remove_images_of
from tests.end_to_end.conftest import Clone, kill
from tests.end_to_end.walkthrough import answer_of, deployed_by_step_1_4, deployment_of
from tests.stand_in_compose import stand_in_images

CLOUD = "Explain Cloud Computing to a school kid"
# What stands for the long steps, whose results the image of tests/docker has already.
STEP = "RUN : "
WORKING = "sleep 2.5"
COMPOSE = "COMPOSE=backends=onnxruntime,python repoagents=checksum"
# How a JWT signed with RS256 begins: {"alg":"RS256" in base64.
TOKEN = b"eyJhbGciOiJSUzI1Ni"
SAMPLING_S = 0.1
GONE_WITHIN_S = 30


@dataclass
class Secrets:
    """What must be found nowhere.

    Attributes:
        auth_token: a value of OCIR_AUTH_TOKEN.
        marker: stands in the certificate bundle that downloads during the build trust.
    """

    auth_token: str
    marker: str

    def found_in(self, data):
        """The names of those that stand in some bytes."""
        wanted = {
            "auth token": self.auth_token.encode(),
            "certificate bundle": self.marker.encode(),
            "registry token": TOKEN,
        }
        return [name for name, value in wanted.items() if value in data]


@dataclass
class CommandLines:
    """Command lines of this machine's processes, read over and over in a thread."""

    planted: Secrets
    seen: set[bytes] = field(default_factory=set)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self):
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _watch(self):
        while not self._stop.wait(SAMPLING_S):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.seen.add(path.read_bytes())
                except OSError:
                    continue

    def with_secrets(self):
        return [line for line in self.seen if self.planted.found_in(line)]


@dataclass
class Made:
    """What came of `make image`.

    Attributes:
        output: of the run.
        lines: the command lines of processes meanwhile.
    """

    output: str
    lines: CommandLines

    @property
    def reference(self):
        return re.search(r"127\.0\.0\.1:\d+/localoci/\S+/triton-cpu:\S+", self.output)[0]


@pytest.fixture(scope="module")
def planted(private_ca_marker):
    return Secrets(f"planted-{secrets.token_hex(16)}", private_ca_marker)


@pytest.fixture(scope="module")
def clone(
    publishing_docker_engine,
    docker_client,
    docker_registry,
    cpu_image,
    planted,
    private_ca_bundle,
    tmp_path_factory,
):
    """A clone whose deployments are containers, and whose image nobody has built to the end.

    What is installed and compiled comes from the image that tests/docker builds and tests.
    """
    clone = Clone.make(
        tmp_path_factory.mktemp("project") / "falconry",
        DOCKER_HOST=publishing_docker_engine.host,
        OCIR_AUTH_TOKEN=planted.auth_token,
        PIP_CERT=str(private_ca_bundle),
    )
    dockerfile = clone.directory / "docker/triton-cpu.Dockerfile"
    text = dockerfile.read_text()
    installing, serving = text.index("FROM "), text.index("ENV ", text.index("FROM runtime\n"))
    built = f"FROM {cpu_image}\n{STEP}{uuid.uuid4()}\n\n"
    dockerfile.write_text(text[:installing] + built + text[serving:])
    try:
        yield clone
    finally:
        clone.run("down")
        port = clone.directory / "build/local/cloud/registry/port"
        if port.exists():
            remove_images_of(docker_client, f"127.0.0.1:{port.read_text()}")


@pytest.fixture(scope="module")
def made(clone, planted):
    """The image, built and pushed."""
    with CommandLines(planted) as lines:
        output = clone.ok("image").output
    assert "✔ image        made" in output
    return Made(output, lines)


@pytest.fixture(scope="module")
def deployed(clone, made, planted):
    """The clone, with the image deployed; and what `make deploy` said."""
    with CommandLines(planted) as lines:
        output = clone.ok("deploy").output
    made.lines.seen.update(lines.seen)
    assert "ACTIVE" in output
    return output


def containers_of(client, clone):
    """The containers of the clone's cloud."""
    label = f"local_oci.home={clone.directory / 'build/local/cloud'}"
    return client.containers.list(all=True, ignore_removed=True, filters={"label": label})


def stored(clone):
    """Every file of the registry, with the time when it was written."""
    registry = clone.directory / "build/local/cloud/registry/storage"
    files = [path for path in registry.rglob("*") if path.is_file()]
    assert files
    return {str(path): path.stat().st_mtime_ns for path in files}


def test_the_registry_asks_for_a_password(made):
    host, _, rest = made.reference.partition("/")
    repository, _, tag = rest.rpartition(":")
    answer = requests.get(f"http://{host}/v2/{repository}/manifests/{tag}", timeout=5)
    assert answer.status_code == 401


def test_the_container_answers_as_the_checkpoint_does(clone, deployed, sentences):
    assert clone.ok("query", f"PROMPT={CLOUD}").answer == sentences[CLOUD]


def test_the_walkthroughs_deployment_and_its_request_work_as_they_stand(clone, deployed):
    _, own = deployment_of(clone)
    assert answer_of(clone, own.model_deployment_url)[0].startswith("Cloud")
    with deployed_by_step_1_4(clone) as url:
        assert answer_of(clone, url)[0].startswith("Cloud")


def test_what_runs_is_the_image_of_the_registry_by_its_digest(clone, deployed, made, docker_client):
    (container,) = containers_of(docker_client, clone)
    name, _, digest = container.attrs["Config"]["Image"].partition("@")
    assert name == made.reference.rpartition(":")[0]
    short = re.search(r"sha256:[0-9a-f]{8}", made.output)[0]
    assert digest.startswith(short)
    assert made.reference in clone.ok("status").output


def test_again_with_nothing_changed_nothing_is_built_or_pushed(
    clone, deployed, made, docker_client
):
    before = clone.state(), stored(clone), [it.id for it in containers_of(docker_client, clone)]
    with engine_events(docker_client, made.reference.rpartition(":")[2]) as events:
        image = clone.ok("image").output
        deploy = clone.ok("deploy").output
    assert "✔ image        up to date" in image
    assert image.count("▸") == 0
    assert deploy.count("up to date") == 5
    assert "made" not in deploy
    assert events == []
    after = clone.state(), stored(clone), [it.id for it in containers_of(docker_client, clone)]
    assert after == before


def test_again_with_nothing_changed_the_cloud_and_its_registry_are_asked_a_few_times(
    clone, deployed
):
    health, token, manifest, deployments, question = clone.requests_of("deploy")
    assert health.startswith("GET /_local/health")
    assert token.startswith("GET /20180419/docker/token?")
    assert manifest.startswith("GET /v2/")
    assert deployments.startswith("GET /20190101/modelDeployments?")
    assert question.startswith("POST /ocid1.datasciencemodeldeployment.")


def test_the_image_keeps_the_contract(clone, deployed, made):
    assert clone.ok("check-image").output.rstrip().endswith(f"{made.reference} keeps the contract.")


def test_the_doctor_finds_nothing_to_do(clone, deployed):
    output = clone.ok("doctor").output
    for line in ("✔ Docker ", "✔ base image ", "✔ registry "):
        assert line in output
    assert "✘" not in output


def test_no_secret_is_in_the_history_or_a_layer_of_the_image(made, docker_client, planted):
    image = docker_client.images.get(made.reference)
    assert planted.found_in(str(image.history()).encode()) == []
    tail = b""
    for chunk in image.save(chunk_size=4 << 20):
        assert planted.found_in(tail + chunk) == []
        tail = chunk[-200:]


def test_no_secret_is_in_what_was_built_or_logged(clone, deployed, planted):
    looked_at = 0
    for path in (clone.directory / "build").rglob("*"):
        if path.is_file() and "storage" not in path.parts:
            assert planted.found_in(path.read_bytes()) == [], path
            looked_at += path.name.endswith(".log") or "receipts" in path.parts
    assert looked_at > 4


def test_no_secret_was_on_a_command_line(deployed, made):
    assert any(b"falconry\0image" in line for line in made.lines.seen)
    assert made.lines.with_secrets() == []


def test_a_secret_would_have_been_found(made, clone, planted, registry_token):
    """What the tests above look for is what there is."""
    assert planted.found_in(registry_token) == ["registry token"]
    assert planted.found_in(f"--token={planted.auth_token}".encode()) == ["auth token"]
    assert planted.found_in(Path(clone._environment["PIP_CERT"]).read_bytes())


@pytest.fixture(scope="module")
def registry_token(clone, made):
    """A token as a push has it."""
    import oci

    cloud = clone.directory / "build/local/cloud"
    signer = oci.signer.Signer.from_config(oci.config.from_file(str(cloud / "config")))
    url = f"{(cloud / 'endpoint').read_text()}/20180419/docker/token"
    return requests.get(url, auth=signer, timeout=5).json()["token"].encode()


# --- other images -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compose_stand_ins(docker_client):
    """Stand-ins for NVIDIA's images of the default release."""
    tags = []

    def build(dockerfile, files):
        tag = f"falconry-test/compose:{secrets.token_hex(6)}"
        context = archive({"Dockerfile": dockerfile.encode(), **files})
        docker_client.images.build(fileobj=context, custom_context=True, tag=tag, forcerm=True)
        tags.append(tag)
        return tag

    yield stand_in_images(docker_client, build, load_toolchains().row(None).compose)
    for tag in tags:
        docker_client.images.remove(tag)


@pytest.fixture
def empty_front(clone):
    """The front is an empty program for as long as a test takes."""
    front = clone.directory / "docker/server/front.py"
    whole = front.read_text()
    front.write_text("")
    yield
    front.write_text(whole)


# In short: what the composed image holds in tests/falconry/image/test_compose.py, the push and the
# digest in tests/falconry/image/test_stage.py.
@pytest.mark.long
def test_a_composed_image_goes_to_the_registry(clone, made, compose_stand_ins, empty_front):
    """On stand-ins, which have nothing that the real front imports."""
    images = (
        f"image.compose_full={compose_stand_ins.full} image.compose_min={compose_stand_ins.minimum}"
    )
    words = ["image", COMPOSE, f"SET={images}"]
    output = clone.ok(*words).output
    assert "✔ image        made" in output
    assert "/triton-onnxruntime-python:25.10-" in output
    assert "up to date" in clone.ok(*words).output


@pytest.fixture
def elsewhere(locked_registry, docker_client):
    """A registry that is nobody's cloud; the engine keeps no image with its name."""
    yield locked_registry
    remove_images_of(docker_client, locked_registry.host)


# In short: the image in tests/docker/test_trtllm_image.py, its push with a login in
# tests/falconry/image/test_stage.py and test_push.py.
@pytest.mark.long
def test_an_image_for_tensorrt_llm_goes_to_any_registry(
    clone, stand_in_trtllm_image, elsewhere, publishing_docker_engine, private_ca_bundle
):
    """On a stand-in for NVIDIA's image, with the login of the environment."""
    user, password = elsewhere.login
    runner = Clone(
        clone.directory,
        DOCKER_HOST=publishing_docker_engine.host,
        OCIR_USERNAME=user,
        OCIR_AUTH_TOKEN=password,
        PIP_CERT=str(private_ca_bundle),
    )
    values = f"engine.image={stand_in_trtllm_image} image.registry.host={elsewhere.host}"
    words = ["image", "PROFILE=oci", f"SET={values}"]
    output = runner.ok(*words).output
    assert "✔ image        made" in output
    repository, tag = re.search(r"/(\S+/triton-trtllm):(\S+)", output).groups()
    digest = elsewhere.digest(repository, tag)
    assert digest.startswith(re.search(r"sha256:[0-9a-f]{8}", output)[0])
    assert "up to date" in runner.ok(*words).output
    assert password not in output


# --- the end ----------------------------------------------------------------------------------


def test_down_leaves_no_container_and_no_process(clone, deployed, docker_client):
    assert containers_of(docker_client, clone)
    clone.ok("down")
    assert containers_of(docker_client, clone) == []
    assert clone.processes() == []


# --- killed runs ------------------------------------------------------------------------------

# In the commands of build steps, of the server's own containers and of the preflight.
OURS = (WORKING, "/opt/falconry", "curl")


def commands(client):
    """What each container of the engine runs, by its id."""
    found = {}
    for container in client.containers.list(all=True, ignore_removed=True):
        config = container.attrs["Config"]
        found[container.id] = str([*(config["Entrypoint"] or []), *(config["Cmd"] or [])])
    return found


def left_of_ours(client, before):
    """New containers of build steps or of the preflight that do not go within a while."""
    deadline = time.monotonic() + GONE_WITHIN_S
    while True:
        ours = [
            command
            for identity, command in commands(client).items()
            if identity not in before and any(words in command for words in OURS)
        ]
        if not ours or time.monotonic() > deadline:
            return ours
        time.sleep(0.2)


# In short: a push that is cut in tests/falconry/image/test_push.py, a killed preflight in
# tests/local_oci/contract_check, a killed build in containers in test_gpu_engines.py.
@pytest.mark.long
def test_a_run_after_killed_ones_completes_and_they_leave_no_container(clone, made, docker_client):
    """Killed while it builds and while it pushes."""
    dockerfile = clone.directory / "docker/triton-cpu.Dockerfile"
    step = f"{STEP}{uuid.uuid4()} && {WORKING}"
    dockerfile.write_text(re.sub(rf"{STEP}\S+", step, dockerfile.read_text()))
    before = commands(docker_client)
    building = clone.start_until(STEP, "image")
    time.sleep(1)  # the step is at work
    assert any(WORKING in command for command in commands(docker_client).values())
    kill(building)
    assert left_of_ours(docker_client, before) == []
    kill(clone.start_until("pushing", "image"))
    assert left_of_ours(docker_client, before) == []
    assert "✔ image " in clone.ok("image").output
