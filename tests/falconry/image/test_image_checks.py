import pytest

from falconry.findings import failures
from falconry.image.image_checks import configuration_findings
from falconry.oci_facts import load_limits

GOOD = {"User": "10001", "Entrypoint": ["/opt/server/run"], "Env": ["PATH=/usr/bin"]}
TOKEN = "hf_" + "AbCdEfGhIjKlMnOpQ" * 2
SECRET = "kT9)q[Wd}s2;Xv"


def problems(configuration=None, *, history=(), labels=(), secrets=(), platform=("linux", "amd64")):
    """The findings that are not ok, by check; and never a secret in them."""
    image = {"Os": platform[0], "Architecture": platform[1], "Config": GOOD | (configuration or {})}
    findings = list(configuration_findings(image, history, load_limits().image, labels, secrets))
    assert {finding.check for finding in findings} >= {"platform", "start command", "user"}
    assert TOKEN not in str(findings)
    assert SECRET not in str(findings)
    return {finding.check: finding.text for finding in failures(findings)}


def test_an_image_as_it_should_be_has_no_problem():
    assert problems({"Labels": {"a": "b"}}, labels=["a"], history=["COPY . /opt"]) == {}


@pytest.mark.parametrize("platform", [("linux", "arm64"), ("windows", "amd64")])
def test_another_platform_is_a_problem(platform):
    assert "/".join(platform) in problems(platform=platform)["platform"]


@pytest.mark.parametrize(
    "command",
    [
        {"Entrypoint": ["/bin/sh", "-c", "tritonserver"]},
        {"Entrypoint": ["bash", "-c", "tritonserver"]},
        {"Entrypoint": None, "Cmd": ["/bin/sh", "-c", "tritonserver"]},
        {"Entrypoint": None, "Cmd": None},
        {"Entrypoint": [], "Cmd": []},
    ],
)
def test_a_start_command_in_shell_form_or_none_at_all_is_a_problem(command):
    assert "start command" in problems(command)


@pytest.mark.parametrize(
    "command",
    [
        {"Entrypoint": ["/bin/sh", "/opt/run.sh"]},
        {"Entrypoint": ["/opt/run"], "Cmd": ["/bin/sh", "-c", "x"]},
        {"Entrypoint": None, "Cmd": ["tritonserver"]},
    ],
)
def test_a_start_command_in_exec_form_is_none(command):
    assert problems(command) == {}


@pytest.mark.parametrize("user", ["", "0", "0:0", "root", "root:users", "00", ":5"])
def test_root_is_a_problem_by_whatever_name(user):
    assert "root" in problems({"User": user})["user"]


@pytest.mark.parametrize("user", ["10001", "10001:0", "triton-server"])
def test_a_user_other_than_root_is_none(user):
    assert problems({"User": user}) == {}


def test_wanted_labels_that_are_missing_or_empty_are_named():
    told = problems({"Labels": {"a": "1", "b": ""}}, labels=["a", "b", "c"])["labels"]
    assert "b, c" in told


@pytest.mark.parametrize(
    "variable",
    [
        f"HF_TOKEN={TOKEN}",
        f"SOMETHING={TOKEN}",
        "REGISTRY_PASSWORD=s3cret",
        "OCI_AUTH_TOKEN=s3cret",
        "AWS_SECRET_ACCESS_KEY=s3cret",
        "NGC_API_KEY=s3cret",
        "PIP_INDEX_URL=https://ci:s3cret@pypi.company.net/simple",
        f"INNOCENT={SECRET}",
    ],
)
def test_a_variable_with_a_credential_is_a_problem_that_names_it(variable):
    told = problems({"Env": ["PATH=/usr/bin", variable]}, secrets=[SECRET])["variables"]
    assert variable.partition("=")[0] in told


# GPG_KEY is the Docker library's python images', the rest NVIDIA's and Hugging Face's.
@pytest.mark.parametrize(
    "variable",
    [
        "GPG_KEY=A035C8C19219BA821ECEA86B64E628F8D684696D",
        "NVIDIA_REQUIRE_CUDA=cuda>=9.0",
        "TOKENIZERS_PARALLELISM=false",
        "HF_HUB_DISABLE_IMPLICIT_TOKEN=1",
        "HF_TOKEN_PATH=/tmp/token",
        "HF_TOKEN=",
        "SSH_AUTH_SOCK=/tmp/agent",
    ],
)
def test_a_variable_without_a_credential_is_none(variable):
    assert problems({"Env": [variable]}) == {}


# As the legacy builder (20.10) and BuildKit write them.
@pytest.mark.parametrize(
    "command",
    [
        "|1 REGISTRY_PASSWORD=s3cret /bin/sh -c make",
        "RUN |1 HF_TOKEN=s3cret /bin/sh -c make # buildkit",
        "/bin/sh -c #(nop)  ENV NGC_API_KEY=s3cret",
        f"/bin/sh -c curl -H 'Authorization: Bearer {TOKEN}' https://huggingface.co",
        "/bin/sh -c docker login --username me --password=s3cret iad.ocir.io",
        "/bin/sh -c pip install --index-url https://ci:s3cret@pypi.company.net/simple oci",
        f"/bin/sh -c echo '{SECRET}' | login",
    ],
)
def test_a_credential_in_the_history_is_a_problem_that_names_the_step(command):
    told = problems(history=["COPY . /opt", command], secrets=[SECRET])["history"]
    assert "step 2" in told
    assert "s3cret" not in told


@pytest.mark.parametrize(
    "command",
    [
        "/bin/sh -c #(nop)  ARG HF_TOKEN",
        "RUN /bin/sh -c TOKEN=$(cat /run/secrets/hf) make # buildkit",
        'RUN /bin/sh -c make PASSWORD="$REGISTRY_PASSWORD" # buildkit',
        "RUN --mount=type=secret,id=hf_token make",
        "|1 DEBIAN_FRONTEND=noninteractive /bin/sh -c apt-get install -y openssl",
    ],
)
def test_a_history_that_only_names_a_credential_is_none(command):
    assert problems(history=[command]) == {}


@pytest.mark.parametrize(
    "label",
    [
        ("org.example.api-token", "s3cret"),
        ("build", "make REGISTRY_PASSWORD=s3cret"),
        ("about", TOKEN),
        ("about", f"see {SECRET}"),
    ],
)
def test_a_credential_in_a_label_is_a_problem_that_names_it(label):
    told = problems({"Labels": dict([label])}, secrets=[SECRET])["label values"]
    assert f"its label {label[0]} contains" in told
    assert "s3cret" not in told


def test_labels_of_vendors_are_none():
    labels = {"io.falconry.key": 64 * "a", "org.opencontainers.image.authors": "NVIDIA <a@b.com>"}
    assert problems({"Labels": labels}) == {}


def test_secrets_too_short_to_look_for_are_said_to_be_left_out():
    image = {"Os": "linux", "Architecture": "amd64", "Config": GOOD}
    findings = configuration_findings(image, (), load_limits().image, (), ["abc"])
    (left_out,) = [finding for finding in findings if finding.check == "known secrets"]
    assert (left_out.state, left_out.text[:19]) == ("skipped", "1 with fewer than 8")
