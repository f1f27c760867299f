"""What the Dockerfiles promise by their text, read without building them."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCKER = Path(__file__).parents[2] / "docker"
LOCK = (DOCKER.parent / "requirements.lock").read_text()
KINDS = ("triton-cpu", "triton-trtllm")
HADOLINT = Path(sys.executable).with_name("hadolint")
DOCKERFILES = sorted(
    [
        *DOCKER.glob("*.Dockerfile"),
        *DOCKER.parent.glob("tests/data/compose/*.Dockerfile"),
        *DOCKER.parent.glob("tests/**/Dockerfile"),
    ]
)


def instructions(kind):
    """A Dockerfile's instructions in order, each as its word and the rest on one line."""
    text = (DOCKER / f"{kind}.Dockerfile").read_text()
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines))
    return [tuple(line.split(None, 1)) for line in joined.splitlines() if line.strip()]


def final_stage(kind):
    """The instructions that become layers or settings of the image, its ancestors' too."""
    stages, names = [], {}
    for word, rest in instructions(kind):
        if word == "FROM":
            parent, _, name = rest.partition(" AS ")
            stages.append(list(names.get(parent, [])))
            names[name] = stages[-1]
        if stages:
            stages[-1].append((word, rest))
    return stages[-1]


def setting(kind, word):
    return [rest for found, rest in final_stage(kind) if found == word][-1]


@pytest.mark.parametrize("kind", KINDS)
def test_the_entrypoint_is_in_exec_form_and_runs_the_contracts_command(kind):
    assert json.loads(setting(kind, "ENTRYPOINT"))[-1] == "/opt/falconry/server/entrypoint.py"
    assert json.loads(setting(kind, "CMD")) == [
        "tritonserver",
        "--model-repository=/opt/ds/model/deployed_model/model_repository",
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_the_user_is_a_number_and_not_root(kind):
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", setting(kind, "USER"))


@pytest.mark.parametrize("kind", KINDS)
def test_the_health_check_is_curl_in_exec_form_at_tritons_route(kind):
    options, _, command = setting(kind, "HEALTHCHECK").partition(" CMD ")
    # oracle-samples/oci-data-science-ai-samples: the NLP quick start's check, the start period of
    # the Triton sample.
    assert set(options.split()) == {
        *("--interval=30s", "--timeout=3s", "--retries=3", "--start-period=15m")
    }
    words = json.loads(command)
    assert words[0] == "curl"
    assert words[-1] == "http://127.0.0.1:8000/v2/health/ready"


@pytest.mark.parametrize("kind", KINDS)
def test_certificates_and_requirements_stay_in_the_build_stage(kind):
    copied = [rest for word, rest in final_stage(kind) if word in ("COPY", "ADD")]
    assert copied
    assert all(rest.startswith("--from=build /opt/falconry/") for rest in copied)


@pytest.mark.parametrize("kind", KINDS)
def test_packages_are_pinned_by_hash_and_bring_nothing_else(kind):
    installs = [rest for word, rest in instructions(kind) if " install " in rest and "pip" in rest]
    (pip,) = [rest for rest in installs if "requirements.txt" in rest]
    assert "--require-hashes" in pip
    assert "--no-deps" in pip


@pytest.mark.parametrize("kind", KINDS)
def test_every_named_package_is_in_the_lock(kind):
    for line in (DOCKER / f"{kind}.packages").read_text().splitlines():
        if name := line.partition("#")[0].strip():
            assert re.search(rf"^{name}==", LOCK, re.MULTILINE), name


@pytest.mark.parametrize("kind", KINDS)
def test_no_instruction_holds_a_credential(kind):
    for word, rest in instructions(kind):
        assert word in {
            *("ARG", "FROM", "RUN", "COPY", "ENV", "USER", "EXPOSE", "HEALTHCHECK"),
            *("ENTRYPOINT", "CMD"),
        }
        assert not re.search(r"password|token(?!izers)|secret|api_?key|\.docker", rest, re.I), rest


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_finds_nothing(path):
    checked = lint(path)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_hadolint_reports_what_is_wrong(tmp_path):
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM debian:latest\nRUN cd / && rm $1\nCMD server\n")
    checked = lint(bad)
    assert checked.returncode == 1
    assert {"DL3007", "SC2086", "DL3025"} <= set(re.findall(r"[A-Z]{2}\d{4}", checked.stdout))


def lint(path):
    return subprocess.run(
        [HADOLINT, "--no-color", path],
        cwd=DOCKER.parent,  # where .hadolint.yaml is
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_comes_from_an_argument_and_no_tag_is_its_default(path):
    text = path.read_text()
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", text, re.MULTILINE))
    arguments = set(re.findall(r"^ARG (\w+)$", text, re.MULTILINE))
    bases = set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) - stages
    assert bases
    assert bases <= {f"${{{name}}}" for name in arguments}
