"""Whatever surrounds a run, what goes wrong is one sentence that names the setting.

Each case is what a library really raises for a machine's configuration, translated at the edge.
"""

import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from huggingface_hub import close_session, constants

from falconry import library_errors, streams
from falconry.checkpoint.hub_names import parse_hub
from falconry.checkpoint.source import fetch
from falconry.cloud.identity import identity_of
from falconry.cloud.session import Session, translate_cloud_errors
from falconry.data_files import require_usable_path
from falconry.docker_engine import client as docker_client
from falconry.docker_engine.configuration import docker_login
from falconry.doctor.network_checks import ask
from falconry.endpoint.client import DeploymentClient, RetryBudget
from falconry.errors import CloudError, FalconryError, MachineError, OutputClosedError
from falconry.image.registry import RegistryClient
from falconry.library_errors import ending
from falconry.progress import Progress
from falconry.settings import CloudSettings, load_settings

ROOT = Path(__file__).parents[1]
NETWORK_VARIABLES = (
    *("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("https_proxy", "http_proxy", "all_proxy", "no_proxy"),
    *("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"),
    *("HF_TOKEN", "HF_ENDPOINT", "OCI_CONFIG_FILE", "OCIR_AUTH_TOKEN", "OCIR_USERNAME"),
)
COMMIT = "0123456789abcdef0123456789abcdef01234567"
TENANCY = "ocid1.tenancy.oc1..aaaa"


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    """None of this machine's own settings."""
    for name in NETWORK_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    close_session()  # an earlier test's has that test's settings


def complaint(call, directory):
    """The one line that a user reads when a call fails, which is no bug's."""
    with pytest.raises(Exception) as raised:
        call()
    message, status = ending(raised.value, directory)
    assert status == 1
    assert message.startswith("✘ ")
    assert len(message.splitlines()) == 1
    assert "unexpected error" not in message
    return message


# --- the SDK's configuration file -------------------------------------------------------------


@pytest.fixture(scope="module")
def key():
    return (
        rsa.generate_private_key(public_exponent=65537, key_size=2048)
        .private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        .decode()
    )


@pytest.fixture
def lines(tmp_path, key):
    """A good profile's lines."""
    (tmp_path / "key.pem").write_text(key)
    fingerprint = ":".join(["ab"] * 16)
    return (
        f"[DEFAULT]\nuser=ocid1.user.oc1..aaaa\nfingerprint={fingerprint}\n"
        f"tenancy={TENANCY}\nregion=us-ashburn-1\nkey_file={tmp_path}/key.pem\n"
    )


def cloud_settings(file, auth="api_key", **others):
    return CloudSettings(auth=auth, config_file=file, project="p", log_group="g", log="l", **others)


CONFIGURATIONS = {
    "a section twice": (
        lambda text: f"{text}[A]\nx=1\n[A]\n",
        "line 9 begins the section [A] again",
    ),
    "a key twice": (lambda text: f"{text}user=other\n", "line 7 sets 'user' again"),
    "a byte-order mark": (lambda text: f"\ufeff{text}", "byte-order mark"),
    "no section": (lambda text: f"user=x\n{text}", "line 1 comes before any section"),
    "a line of its own": (lambda text: f"{text}pass_phrase secret\n", "line 7 is not a setting"),
    "no key": (lambda text: text.replace("key.pem", "none.pem"), "key_file"),
    "no user": (lambda text: text.replace("user=", "usr="), "user"),
    "a malformed user": (lambda text: text.replace("user=", "user=ü"), "user"),
    "no such profile": (lambda text: text.replace("[DEFAULT]", "[MINE]"), "missing"),
    "a kind that no SDK knows": (lambda text: f"{text}authentication_type=x\n", "authentication"),
    "a session token": (
        lambda text: text.replace("user=", "security_token_file="),
        "SET=cloud.auth=session_token",
    ),
}


@pytest.mark.parametrize("case", CONFIGURATIONS)
def test_a_broken_sdk_configuration_is_named(case, lines, tmp_path):
    change, words = CONFIGURATIONS[case]
    file = tmp_path / "config"
    file.write_text(change(lines), encoding="utf-8")
    message = complaint(lambda: identity_of(cloud_settings(file)), tmp_path)
    assert str(file) in message
    assert words in message
    assert "secret" not in message


@pytest.mark.parametrize(
    ("content", "words"),
    [("junk", "PEM"), ("", "PEM")],
)
def test_a_key_that_is_none_is_named(lines, tmp_path, content, words):
    (tmp_path / "config").write_text(lines)
    (tmp_path / "key.pem").write_text(content)
    message = complaint(lambda: identity_of(cloud_settings(tmp_path / "config")), tmp_path)
    assert f"{tmp_path}/key.pem" in message
    assert words in message


def test_a_pass_phrase_that_the_sdk_does_not_take_is_named(lines, tmp_path):
    (tmp_path / "config").write_text(f"{lines}pass_phrase=grüße\n", encoding="utf-8")
    message = complaint(lambda: identity_of(cloud_settings(tmp_path / "config")), tmp_path)
    assert "pass_phrase" in message
    assert "grüße" not in message


@pytest.mark.parametrize("token", ["töken".encode(), b"\xff\xfe"])
def test_a_session_token_with_other_characters_is_named(lines, tmp_path, token):
    (tmp_path / "token").write_bytes(token)
    (tmp_path / "config").write_text(f"{lines}security_token_file={tmp_path}/token\n")
    settings = cloud_settings(tmp_path / "config", "session_token")
    message = complaint(lambda: identity_of(settings), tmp_path)
    assert f"{tmp_path}/token: holds characters that a token cannot have" in message


def test_oci_config_file_replaces_the_sdks_own_path_and_no_other(lines, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").write_text(lines)
    monkeypatch.setenv("OCI_CONFIG_FILE", str(tmp_path / "elsewhere"))
    assert identity_of(cloud_settings(Path("~/.oci/config"))).tenancy == TENANCY
    with pytest.raises(CloudError, match="named"):
        identity_of(cloud_settings(tmp_path / "named"))


# --- proxies, certificates and tokens ---------------------------------------------------------


def ask_by_requests(lines, directory):
    ask("https://server.invalid/")


def ask_a_registry(lines, directory):
    RegistryClient("registry.invalid", None).digest("image", "1")


def ask_the_hub(lines, directory):
    fetch(parse_hub(f"hub:no-owner/nothing@{COMMIT}"), lambda step, fraction: None)


def ask_the_cloud(lines, directory):
    from oci.object_storage import ObjectStorageClient

    (directory / "config").write_text(lines)
    client = Session(cloud_settings(directory / "config")).client(ObjectStorageClient)
    with translate_cloud_errors("asking for the namespace"):
        client.get_namespace()


def ask_a_deployment(lines, directory):
    with DeploymentClient(lambda request: request, RetryBudget(connect=1.0)) as client:
        client.get("https://deployment.invalid/")


CALLERS = [ask_by_requests, ask_a_registry, ask_the_hub, ask_the_cloud, ask_a_deployment]
# Without a network every one of them fails before it connects.
WRONG = {
    "a SOCKS proxy": ("HTTPS_PROXY", "socks5://user:secret@proxy.invalid:1080", "socks"),
    "a proxy without a port": ("HTTPS_PROXY", "http://user:secret@proxy.invalid:port", "proxy"),
    "a certificate file that is not there": ("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem", "/nowhere"),
}


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_setting_of_the_network_is_named(caller, case, lines, tmp_path, monkeypatch):
    variable, value, words = WRONG[case]
    if caller is ask_the_hub and variable == "REQUESTS_CA_BUNDLE":
        variable = "SSL_CERT_FILE"  # httpx's
    monkeypatch.setenv(variable, value)
    monkeypatch.setattr(library_errors, "_SOCKS_PACKAGES", ("no_such_package",))
    message = complaint(lambda: caller(lines, tmp_path), tmp_path)
    assert f"{variable}: " in message
    assert words in message.lower()
    assert "secret" not in message


@pytest.mark.parametrize(
    ("proxy", "problem"),
    [
        ("ftp://user:secret@proxy.invalid", "it begins with 'ftp'"),
        ("http://user:secret@:3128", "it names no host"),
        ("user:secret@proxy.invalid:0", "it names no host"),
    ],
)
def test_what_is_no_proxys_url_is_named_without_its_password(proxy, problem):
    told = str(library_errors.proxy_problem({"HTTPS_PROXY": proxy}))
    assert f"HTTPS_PROXY: is not the URL of a proxy ({problem})" in told
    assert "secret" not in told
    assert library_errors.proxy_problem({"HTTPS_PROXY": "proxy.invalid:3128"}) is None


@pytest.mark.parametrize("caller", [ask_the_hub, ask_a_deployment])
def test_a_file_without_certificates_is_named(caller, lines, tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", __file__)
    message = complaint(lambda: caller(lines, tmp_path), tmp_path)
    assert f"SSL_CERT_FILE: names {__file__}, which cannot be used" in message


def test_a_certificate_that_is_not_trusted_names_the_variable_for_more():
    said = "HTTPSConnectionPool(host='proxy.test', port=443): [SSL: CERTIFICATE_VERIFY_FAILED]"
    found = library_errors.setting_error(requests.exceptions.SSLError(ValueError(said)))
    assert str(found).startswith("proxy.test: a server's certificate is not trusted here; ")
    assert "REQUESTS_CA_BUNDLE" in str(found)


def test_a_failure_that_no_setting_explains_has_none(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://proxy.test")
    refused = requests.exceptions.ConnectionError("HTTPConnectionPool: connection refused")
    assert library_errors.setting_error(refused) is None


def test_a_token_for_the_hub_with_other_characters_is_named(lines, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "tökén")
    message = complaint(lambda: ask_the_hub(lines, tmp_path), tmp_path)
    assert "HF_TOKEN: holds characters that a token cannot have" in message
    assert "tökén" not in message


# --- the Docker command's configuration -------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        *("{", "[]", "\ufeff{}", '{"auths": "x"}', '{"credHelpers": []}', '{"proxies": []}'),
        *('{"auths": {"r": {"auth": "!"}}}', '{"auths": {"r": {"auth": "YWJj"}}}'),
        *('{"currentContext": "gone"}', '{"HttpHeaders": 1}'),
    ],
)
def test_a_broken_configuration_of_docker_is_named(tmp_path, content):
    (tmp_path / "config.json").write_text(content, encoding="utf-8")
    message = complaint(docker_client.connect, tmp_path)
    assert f"{tmp_path}/config.json: " in message
    assert "no Docker engine answers" not in message


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"DOCKER_CONTEXT": "nowhere"}, "DOCKER_CONTEXT: there is no Docker context 'nowhere'"),
        ({"DOCKER_TLS_VERIFY": "1"}, "DOCKER_TLS_VERIFY: the engine's TLS needs "),
        ({"DOCKER_CERT_PATH": "/nowhere"}, "DOCKER_CERT_PATH: the engine's TLS needs /nowhere/"),
        ({"DOCKER_HOST": "ftp://x"}, "DOCKER_HOST: the Docker engine cannot be used (Invalid"),
        ({"DOCKER_HOST": "tcp://me:secret@x:y"}, "DOCKER_HOST: the Docker engine cannot be used"),
        ({"DOCKER_HOST": "unix:///nowhere"}, "no Docker engine answers"),
    ],
)
def test_a_wrong_setting_of_docker_is_named(tmp_path, monkeypatch, variables, words):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    message = complaint(docker_client.connect, tmp_path)
    assert words in message
    assert "secret" not in message


def test_an_engine_that_hangs_is_named_after_seconds(tmp_path, monkeypatch):
    assert docker_client._FIRST_ANSWER_S < 10
    monkeypatch.setattr(docker_client, "_FIRST_ANSWER_S", 1)
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(tmp_path / "s"))
        mute.listen()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/s")
        message = complaint(docker_client.connect, tmp_path)
    assert "the Docker engine does not answer within 1 s" in message


HELPER = """#!/bin/sh
cat >/dev/null
"""


@pytest.fixture
def helper(tmp_path, monkeypatch):
    """Makes a credential helper that says something, and has docker use it."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def make(script, name="here"):
        program = tmp_path / "docker-credential-here"
        program.write_text(HELPER + script)
        program.chmod(0o755)
        (tmp_path / "config.json").write_text(json.dumps({"credsStore": name}))

    return make


def answer(user, secret):
    return f"echo '{json.dumps({'ServerURL': 'r', 'Username': user, 'Secret': secret})}'"


def test_a_credential_helpers_login_is_used(helper):
    helper(answer("me", "secret"))
    assert docker_login("r.test").auth_config() == {"username": "me", "password": "secret"}


def test_a_credential_helpers_token_is_an_identity(helper):
    helper(answer("<token>", "secret"))
    assert docker_login("r.test").auth_config() == {"identitytoken": "secret"}


def test_an_identity_token_of_the_file_is_used(tmp_path):
    word = base64.b64encode(b"me:").decode()
    login = {"auth": word, "identitytoken": "secret"}
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"r.test": login}}))
    assert docker_login("r.test").auth_config() == {"identitytoken": "secret"}


def test_a_helper_that_knows_no_login_gives_none(helper):
    helper("echo 'credentials not found in native keychain'; exit 1")
    assert docker_login("r.test") is None


@pytest.mark.parametrize(
    ("script", "name", "words"),
    [
        ("", "missing", "docker-credential-missing not installed"),
        ("echo 'the keychain is locked'; exit 1", "here", "the keychain is locked"),
        ("echo junk", "here", "answers no login"),
        ("echo '[]'", "here", "answers no login"),
        ("echo '{}'", "here", "answers no login"),
    ],
)
def test_a_helper_that_fails_is_an_error_and_no_anonymous_login(
    helper, tmp_path, script, name, words
):
    helper(script, name)
    message = complaint(lambda: docker_login("r.test"), tmp_path)
    assert f"{tmp_path}/config.json: the credential helper for r.test " in message
    assert words in message


# --- paths and anything else ------------------------------------------------------------------


@pytest.mark.parametrize("option", ["profile", "recipe", "checkpoint"])
def test_a_name_that_no_file_system_holds_is_named(tmp_path, option):
    name = "a" * 300

    def load():
        from falconry.engine.stage import EngineStage
        from falconry.pipeline import Workspace

        settings = load_settings(ROOT, **{option: name})
        stage = EngineStage(settings, Workspace.open(tmp_path / "build", Progress(io.StringIO())))
        stage.key(stage.inputs())

    assert name in complaint(load, tmp_path)


@pytest.mark.parametrize("path", ["/tmp/a:b", "/tmp/a\nb", "/tmp/\udcfc"])
def test_a_checkout_whose_path_programs_would_misread_is_refused(tmp_path, path):
    message = complaint(lambda: require_usable_path(Path(path)), tmp_path)
    assert "move the checkout" in message


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "no memory left"),
        (ModuleNotFoundError("No module named 'x'"), "remove .venv and run make again"),
        (OSError(24, "Too many open files"), "ulimit -n"),
        (FileNotFoundError(2, "No such file or directory", "/some/file"), "/some/file: no such"),
    ],
)
def test_what_the_machine_lacks_is_one_sentence(tmp_path, error, words):
    message, status = ending(error, tmp_path)
    assert (words in message, status, list(tmp_path.iterdir())) == (True, 1, [])


def test_a_bug_is_one_sentence_and_its_traceback_a_file(tmp_path):
    def fail():
        raise KeyError("secret\nand more")

    with pytest.raises(KeyError) as raised:
        fail()
    message, status = ending(raised.value, tmp_path / "build")
    assert status == 1
    assert len(message.splitlines()) == 1
    assert "KeyError" in message
    assert f"{tmp_path}/build/last-error.txt" in message
    written = (tmp_path / "build" / "last-error.txt").read_text()
    assert "in fail" in written
    assert "secret" not in message + written.replace('KeyError("secret', "")


def test_each_way_to_end_has_its_status(tmp_path):
    assert ending(FalconryError("x", where="y", remedy="z"), tmp_path) == ("✘ y: x; z", 1)
    assert ending(OutputClosedError(), tmp_path) == ("", 141)
    assert ending(KeyboardInterrupt(), tmp_path)[1] == 130


# --- the outputs, the locale and Python's options ---------------------------------------------


def test_a_full_output_is_named(tmp_path):
    with Path("/dev/full").open("w") as full:
        progress = Progress(full)
        with pytest.raises(MachineError, match="/dev/full: cannot be written to"):
            progress.note("x")
        progress.note("what comes after goes nowhere")


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("latin-1", "ok engine       made            tiny... -> caf\xe9 \\u4e2d \xb7 2 MB\n"),
        ("ascii", "ok engine       made            tiny... -> caf\\xe9 \\u4e2d - 2 MB\n"),
        ("utf-8", "✔ engine       made            tiny… → café 中 · 2 MB\n"),
    ],
)
def test_texts_are_printable_in_every_encoding(encoding, text):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    Progress(stream).done("engine", "made", "tiny… → café 中 · 2 MB")
    assert stream.buffer.getvalue().decode(encoding) == text


def test_what_is_typed_in_another_locale_is_read_in_utf_8_mode(monkeypatch):
    monkeypatch.delenv("PYTHONIOENCODING", raising=False)
    monkeypatch.setattr(streams.locale, "setlocale", lambda category: "de_DE.ISO-8859-1")
    monkeypatch.setattr(streams.locale, "getencoding", lambda: "iso-8859-1")
    assert streams.typed_text(os.fsdecode(b"Gr\xfc\xdfe")) == "Grüße"


@pytest.fixture(scope="module")
def run():
    """Runs an Invoke task in a shell; gives its status, output and errors."""

    def run(words, **environment):
        command = f"{sys.executable} -m falconry {words}"
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=ROOT,
            env={**os.environ, **environment},
            capture_output=True,
            check=False,
        )
        assert b"Traceback" not in done.stdout + done.stderr
        return done.returncode, done.stdout, done.stderr

    return run


def test_a_run_without_outputs_ends_as_it_would(run):
    assert run("help >&-") == (0, b"", b"")
    assert run("help >&- 2>&- <&-") == (0, b"", b"")
    assert run("plan --profile=nowhere >&- 2>&-")[0] == 1


def test_ctrl_c_while_modules_are_imported_ends_without_a_traceback(tmp_path):
    (tmp_path / "invoke").mkdir()
    (tmp_path / "invoke/__init__.py").touch()
    slow = "import time\nprint('importing', flush=True)\ntime.sleep(60)\n"
    (tmp_path / "invoke/__main__.py").write_text(slow)
    process = subprocess.Popen(
        [sys.executable, "-m", "falconry", "help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout.readline() == b"importing\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (-signal.SIGINT, b"")


def test_a_run_with_a_full_output_says_so(run):
    status, _, errors = run("help >/dev/full")
    assert status == 1
    assert b"stdout: cannot be written to (no space left on device)" in errors


def test_the_targets_are_described_in_columns_even_without_docstrings(run):
    status, output, _ = run("help", PYTHONOPTIMIZE="2")
    lines = [line for line in output.decode().splitlines() if line.startswith("  make ")]
    assert status == 0
    assert len(lines) > 20
    column = len("  make ") + max(len(line.split()[1]) for line in lines) + 2
    assert all(line[column - 2 : column] == "  " and line[column] != " " for line in lines)


def test_an_error_is_printable_in_latin_1(run):
    status, _, errors = run("plan --profile=nowhere…", PYTHONIOENCODING="latin-1")
    assert status == 1
    assert errors.decode("latin-1").startswith("!! there is no profile 'nowhere...'")
