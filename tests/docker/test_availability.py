"""Each process of a deployment is killed and stopped in turn while clients ask it.

A real Triton with the tiny Falcon, in a local cloud as `make deploy` uses it.
"""

import os
import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests

from falconry.image.process_image import prepare_process_image
from tests.local_oci.support import LocalCloud, Sdk, wait_until, zipped_repository

IMAGE = "local/triton:1"
DEPLOYED = "/opt/ds/model/deployed_model/model_repository"
COMPLETIONS = "/predict/v1/completions"
CLIENTS = 3
# Below the gateway's limit of requests a second while it refuses them.
PAUSE_S = 0.1
# Those whose end ends the container, each by another way.
KILLED = ("tensorrt_llm", "tensorrt_llm_bls", "Triton", "front", "supervisor", "relay", "init")
STOPPED = (*KILLED, "preprocessing", "keeper")
DEADLINE_S = 60


@dataclass
class Deployment:
    """A deployment and the processes below it."""

    sdk: Sdk
    id: str
    question: dict
    answer: str

    def ask(self):
        return self.sdk.post(self.id, COMPLETIONS, json=self.question)

    def details(self):
        return self.sdk.data_science.get_model_deployment(self.id).data.lifecycle_details or ""

    def processes(self):
        """The number of each part's process, by the part's name."""
        cloud = self.sdk.cloud.process.pid
        parents = {pid: parent for pid, parent in map(numbers, running()) if parent}
        words = {pid: command_line(pid) for pid in parents}
        found = {}
        for pid, line in words.items():
            if cloud not in ancestors(pid, parents):
                continue
            if "tritonserver.py" in line:
                name = "front" if "tritonserver.py" in words.get(parents[pid], "") else "supervisor"
                found[name] = pid
            elif "python_backend_stub" in line and ".py" in line:  # else it has just started
                found[Path(line.split()[1]).parent.parent.name] = pid
            elif "/bin/tritonserver " in line:
                found["Triton"] = pid
            elif "local_oci.runtime.keeper" in line and parents[pid] == cloud:
                found["keeper"] = pid
        found["init"] = parents.get(found.get("supervisor"))
        if found["init"] == found.get("keeper"):  # this machine refuses namespaces
            del found["init"]
        for pid, parent in parents.items():
            if parent == found.get("init") and pid != found.get("supervisor"):
                found["relay"] = pid
        return found


def running():
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def numbers(pid):
    try:
        return pid, int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return pid, None


def command_line(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def ancestors(pid, parents):
    found = []
    while pid in parents:
        pid = parents[pid]
        found.append(pid)
    return found


@pytest.fixture(scope="module")
def deployment(make_repository, sentences, tmp_path_factory):
    directory = tmp_path_factory.mktemp("oci")
    image = prepare_process_image(directory / "image")
    cloud = LocalCloud(directory / "cloud", f"--image={IMAGE}={image}").start()
    try:
        sdk = Sdk(cloud)
        deployed = sdk.deploy(
            sdk.model(zipped_repository(make_repository())),
            variables={"MODEL_DEPLOY_HEALTH_ENDPOINT": "/v2/health/ready"},
            image=IMAGE,
            cmd=["tritonserver", f"--model-repository={DEPLOYED}"],
            predict_api_specification="openai",
        )
        prompt, answer = next(iter(sentences.items()))
        question = {
            "model": "tensorrt_llm_bls",
            "prompt": prompt,
            "max_tokens": 200,
            "temperature": 0,
        }
        yield Deployment(sdk, deployed.id, question, answer)
    finally:
        cloud.stop()


@dataclass
class Load:
    """What clients got: when each answer's request was sent, and the response."""

    deployment: Deployment
    answers: list[tuple[float, requests.Response]] = field(default_factory=list)

    def right_since(self, moment):
        """Whether a request that was sent after a moment had the right answer."""
        return any(response.ok for sent, response in list(self.answers) if sent > moment)

    def run(self, end):
        while not end.wait(PAUSE_S):
            sent = time.monotonic()
            self.answers.append((sent, self.deployment.ask()))


@contextmanager
def load(deployment):
    """Clients that ask the deployment all the time."""
    load, end = Load(deployment), threading.Event()
    threads = [threading.Thread(target=load.run, args=[end]) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        end.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize(
    ("part", "number"),
    [
        *(pytest.param(part, signal.SIGKILL, id=f"{part} killed") for part in KILLED),
        *(pytest.param(part, signal.SIGSTOP, id=f"{part} stopped") for part in STOPPED),
        pytest.param("Triton", signal.SIGTERM, id="Triton terminated"),
    ],
)
def test_clients_get_right_answers_or_503_until_right_ones_come_again(deployment, part, number):
    wait_until(lambda: deployment.ask().ok, DEADLINE_S)
    victim = deployment.processes().get(part)
    if victim is None:
        pytest.skip("this machine refuses namespaces")
    before = deployment.details()
    with load(deployment) as clients:
        wait_until(lambda: clients.right_since(0))
        os.kill(victim, number)
        moment = time.monotonic()
        if number != signal.SIGSTOP:
            wait_until(lambda: deployment.details() != before, DEADLINE_S)
            moment = time.monotonic()
        wait_until(lambda: clients.right_since(moment), DEADLINE_S)
    statuses = {response.status_code for _, response in clients.answers}
    assert statuses <= {200, 503}, [response.text for _, response in clients.answers]
    for _, response in clients.answers:
        if response.ok:
            assert response.json()["choices"][0]["text"] == deployment.answer
        else:
            assert int(response.headers["Retry-After"]) > 0


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_model_that_is_stopped_or_killed_while_it_loads_is_no_silent_outage(deployment, number):
    wait_until(lambda: deployment.ask().ok, DEADLINE_S)
    before = deployment.processes()
    os.kill(before["Triton"], signal.SIGKILL)

    def new_model():
        model = deployment.processes().get("postprocessing")
        return model if model != before["postprocessing"] else None

    victim = wait_until(new_model, DEADLINE_S)
    os.kill(victim, number)
    wait_until(lambda: deployment.ask().ok, DEADLINE_S)
