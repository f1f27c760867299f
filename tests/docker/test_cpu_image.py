"""The CPU server image, built and run as strictly as Oracle's service may run it."""

import json
import os
import signal
import tarfile

import pytest

from falconry.data_files import project_file
from falconry.image.image_checks import output_of_command
from falconry.image.parts import read_installed
from falconry.image.server_images import cpu_packages
from tests.docker_images import container, curl, stop, wait_until_ready

MEGABYTE = 10**6


@pytest.fixture(scope="module")
def repository(make_repository):
    return make_repository()


@pytest.fixture(scope="module")
def server(docker_client, cpu_image, repository):
    with container(docker_client, cpu_image, repository=repository) as running:
        wait_until_ready(running)
        yield running


def processes(running):
    """The processes of a container: (pid, parent, user, state), as `docker top` runs ps."""
    table = running.top(ps_args="-eo pid,ppid,uid,stat,args")["Processes"]
    return [(int(pid), int(parent), int(user), state) for pid, parent, user, state, _ in table]


def test_it_answers_as_the_checkpoint_does(server, sentences):
    prompt, answer = next(iter(sentences.items()))
    body = json.dumps({"text_input": prompt, "max_tokens": 64})
    said = curl(server, "/v2/models/ensemble/generate", "--data", body)
    assert json.loads(said)["text_output"] == answer


@pytest.mark.parametrize("path", ["ensemble/versions/1/infer", "tensorrt_llm_bls/generate"])
def test_the_walkthroughs_request_is_answered_with_outputs(server, sentences, path):
    prompt, answer = next(iter(sentences.items()))
    body = json.dumps({"text_input": prompt, "max_tokens": 64})
    headers = ("--header", "model_name: ensemble", "--header", "model_version: 1")
    said = json.loads(curl(server, f"/v2/models/{path}", "--data", body, *headers))
    assert said["outputs"][0]["data"] == [said["text_output"]] == [answer]


def test_nobody_is_root_and_nobody_is_a_zombie(server):
    assert all(user == 10001 for _, _, user, _ in processes(server))
    assert not [state for *_, state in processes(server) if state.startswith("Z")]


def test_its_own_health_check_passes(server, docker_client, cpu_image):
    test = docker_client.images.get(cpu_image).attrs["Config"]["Healthcheck"]["Test"]
    code, _ = server.exec_run(test[1:])
    assert (test[0], code) == ("CMD", 0)


def test_a_wrong_request_is_refused_by_the_front(server):
    route = "http://127.0.0.1:8000/v2/models/ensemble/generate"
    code, output = server.exec_run(["curl", "--silent", "--data", '{"text_input": 5}', route])
    assert (code, json.loads(output)) == (0, {"error": "text_input must be text, not 5"})


def test_it_runs_as_any_user_and_stops_with_tritons_status(docker_client, cpu_image, repository):
    with container(docker_client, cpu_image, repository=repository, user="54321:0") as running:
        wait_until_ready(running)
        status, seconds = stop(running)
    assert status == 0
    assert seconds < 8  # Docker's own patience is 10 s


def test_its_first_process_does_not_stay_stopped_and_it_ends_without_a_backend(
    docker_client, cpu_image, repository
):
    with container(docker_client, cpu_image, repository=repository) as running:
        wait_until_ready(running)
        # Without -ww, ps cuts lines to COLUMNS, which the workers of pytest-xdist have as 80.
        table = running.top(ps_args="-ww -eo pid,args")["Processes"]
        first = next(int(pid) for pid, words in table if "entrypoint.py" in words)
        backend = next(int(pid) for pid, words in table if "/tensorrt_llm/1/model.py" in words)
        os.kill(first, signal.SIGSTOP)
        for line in running.logs(stream=True):
            if b"the container's first process was stopped and is continued" in line:
                break
        os.kill(backend, signal.SIGKILL)
        assert running.wait(timeout=60)["StatusCode"] == 1
        assert b"the Python backend of tensorrt_llm has ended" in running.logs()


def test_it_can_be_stopped_while_models_load(docker_client, cpu_image, tmp_path):
    """Triton takes SIGTERM only after that, and the kernel drops it for a first process."""
    model = tmp_path / "slow"
    (model / "1").mkdir(parents=True)
    (model / "config.pbtxt").write_text('backend: "python" instance_group [{ kind: KIND_CPU }]')
    (model / "1" / "model.py").write_text(
        "import time\n\n\nclass TritonPythonModel:\n"
        "    def initialize(self, args):\n        print('loading', flush=True)\n"
        "        time.sleep(120)\n"
    )
    tmp_path.chmod(0o755)
    with container(docker_client, cpu_image, repository=tmp_path) as running:
        for line in running.logs(stream=True):
            if b"loading" in line:
                break
        status, seconds = stop(running)
    assert status == 128 + 15
    assert seconds < 5


def test_a_server_that_fails_gives_its_status(docker_client, cpu_image):
    with container(docker_client, cpu_image) as running:  # there is no repository
        assert running.wait(timeout=60)["StatusCode"] == 1
        assert b"failed to stat" in running.logs()


def test_flags_alone_are_the_servers(docker_client, cpu_image):
    with container(docker_client, cpu_image, "--no-such-flag") as running:
        assert running.wait(timeout=60)["StatusCode"] == 1
        assert b"tritonserver: unrecognized option '--no-such-flag'" in running.logs()


def test_any_other_command_runs_as_it_is(docker_client, cpu_image):
    with container(docker_client, cpu_image, "sh", "-c", "echo $0 $$; exit 9", "me") as running:
        assert running.wait(timeout=60)["StatusCode"] == 9
        assert running.logs() == b"me 1\n"


def test_it_is_small(docker_client, cpu_image):
    assert docker_client.images.get(cpu_image).attrs["Size"] < 500 * MEGABYTE


def test_the_private_certificate_is_in_no_layer(
    docker_client, cpu_image, private_ca_marker, tmp_path
):
    saved = tmp_path / "image.tar"
    with saved.open("wb") as output:
        output.writelines(docker_client.images.get(cpu_image).save(chunk_size=MEGABYTE))
    with tarfile.open(saved) as image:
        layers = [name for name in image.getnames() if name.endswith("layer.tar")]
        assert len(layers) >= 4
        for name in layers:
            with tarfile.open(fileobj=image.extractfile(name)) as layer:
                for entry in layer:
                    if entry.isfile() and entry.size < 4 * MEGABYTE:
                        assert private_ca_marker.encode() not in layer.extractfile(entry).read()


def test_everything_that_serves_is_compiled(docker_client, cpu_image):
    listing = (
        "import pathlib, sys\n"
        "for root in ('/opt/falconry/server', '/opt/falconry/venv'):\n"
        "    for source in pathlib.Path(root).rglob('*.py'):\n"
        "        name = f'{source.stem}.cpython-311.pyc'\n"
        "        if not (source.parent / '__pycache__' / name).exists(): print(source)\n"
    )
    with container(docker_client, cpu_image, "python3", "-c", listing) as running:
        assert running.wait(timeout=60)["StatusCode"] == 0
        assert running.logs() == b""


def test_its_parts_can_be_listed_in_it(docker_client, cpu_image):
    script = project_file("falconry/image/installed.py").read_text()
    command = ["/opt/falconry/venv/bin/python", "-I", "-c", script]
    found = read_installed(output_of_command(docker_client, cpu_image, command), cpu_image)
    assert (found.distribution.name, found.distribution.version) == ("debian", "12")
    debian = {each.name: each for each in found.debian}
    assert {"libc6", "curl", "ca-certificates"} <= set(debian)
    assert debian["curl"].licences
    names = {each.name.lower().replace("_", "-") for each in found.python}
    assert set(cpu_packages()) <= names
