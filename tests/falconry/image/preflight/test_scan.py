import base64
import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from huggingface_hub import constants

from falconry.image.preflight.layers import examine_layer
from falconry.image.preflight.rules import load_rules
from falconry.image.preflight.scan import KNOWN_SECRET, Scanner
from tests.falconry.image.preflight.saved_images import PIECE, chunks, tar

# Forms of the vendors' documents, as rules.toml names them; put together here, so that no scanner
# of repositories takes them for real ones.
LETTERS = "AbCdEfGhIjKlMnOpQrStUvWxYz" * 4
TOKENS = {
    "a Hugging Face token": "hf_" + LETTERS[:34],
    "a GitHub token": "ghp_" + LETTERS[:36],
    "a fine-grained GitHub token": "github_pat_" + LETTERS[:22] + "_" + LETTERS[:59],
    "a GitLab token": "glpat-" + LETTERS[:20],
    "an AWS access key": "AKIA" + "I2J3K4L5M6N7O2P3",
    "an AWS secret key": "aws_secret_access_key = " + LETTERS[:40],
    "an NVIDIA API key": "nvapi-" + LETTERS[:64],
    "an npm token": "//registry.npmjs.org/:_authToken=npm_" + LETTERS[:36],
    "a password in a URL": "https://robot:" + LETTERS[:12] + "@index.company.net/simple",
}


def found(files, secrets=()):
    """The (path, rule) pairs of a layer with these files."""
    layer = tar(files)
    record = examine_layer(chunks(layer, PIECE), len(layer), None, Scanner(load_rules(), secrets))
    return {(suspicion.path, suspicion.rule) for suspicion in record.suspicions}


@pytest.mark.parametrize("rule", TOKENS)
def test_a_token_is_found_by_its_form_wherever_it_stands_in_a_text(rule):
    token = TOKENS[rule].encode()
    for text in (token, b"export X='" + token + b"'\n", b'{"key": "' + token + b'"}'):
        assert (("srv/settings", rule)) in found([("srv/settings", text)]), text


@pytest.mark.parametrize("rule", TOKENS)
def test_what_only_looks_like_the_start_of_a_token_is_none(rule):
    cut = TOKENS[rule][:6].encode()
    assert found([("srv/settings", cut + b" begins what the handbook explains")]) == set()


def keys():
    encodings = serialization.Encoding.PEM, serialization.PrivateFormat
    plain, locked = serialization.NoEncryption(), serialization.BestAvailableEncryption(b"pass")
    pem, form = encodings
    made = {
        "rsa": rsa.generate_private_key(public_exponent=65537, key_size=2048),
        "ec": ec.generate_private_key(ec.SECP256R1()),
        "ed25519": ed25519.Ed25519PrivateKey.generate(),
    }
    for name, key in made.items():
        yield f"{name} PKCS8", key.private_bytes(pem, form.PKCS8, plain)
        yield f"{name} encrypted", key.private_bytes(pem, form.PKCS8, locked)
        yield f"{name} OpenSSH", key.private_bytes(pem, form.OpenSSH, plain)
        if name != "ed25519":
            yield f"{name} traditional", key.private_bytes(pem, form.TraditionalOpenSSL, plain)
            yield f"{name} with headers", key.private_bytes(pem, form.TraditionalOpenSSL, locked)


KEYS = dict(keys())


@pytest.mark.parametrize("name", KEYS)
def test_private_keys_of_each_kind_are_found(name):
    key = KEYS[name]
    as_json = json.dumps({"private_key": key.decode()}).encode()
    files = [("a/key.pem", key), ("b", key.replace(b"\n", b"\r\n")), ("c.json", as_json)]
    rule = "a private key"
    assert found(files) == {("a/key.pem", rule), ("b", rule), ("c.json", rule)}


def test_public_keys_and_certificates_and_code_that_reads_keys_are_no_secrets():
    public = ed25519.Ed25519PrivateKey.generate().public_key()
    pem = public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    body = base64.encodebytes(bytes(range(256)) * 3)
    files = [
        ("etc/ssl/certs/ca-certificates.crt", b"-----BEGIN CERTIFICATE-----\n" + body * 50),
        ("id_rsa.pub", b"ssh-rsa " + body),
        ("key.pub", pem),
        ("pem.py", b'if text.startswith("-----BEGIN PRIVATE KEY-----"):\n    return load(text)\n'),
        ("doc.md", b"The file begins with -----BEGIN RSA PRIVATE KEY-----.\n" * 3),
    ]
    assert found(files) == set()


HF_TOKEN = constants.HF_TOKEN_PATH.lstrip("/")
LOGIN = base64.b64encode(b"tenancy/robot:AbC)d{e1").decode()
CREDENTIAL_FILES = {
    "root/.docker/config.json": (
        "a registry's login",
        json.dumps({"auths": {"iad.ocir.io": {"auth": LOGIN}}}, indent="\t").encode(),
    ),
    "home/a/.docker/config.json": (
        "a registry's token",
        json.dumps({"auths": {"r": {"identitytoken": LETTERS[:40]}}}).encode(),
    ),
    "root/.netrc": ("a password for a host", b"machine huggingface.co login me password s3cretpw"),
    "root/.pypirc": ("a package index's login", b"[pypi]\nusername = a\npassword = s3cretpw\n"),
    "etc/pip.conf": (
        "a password in a URL",
        b"[global]\nindex-url = https://ci:s3cretpw@pypi.company.net/simple\n",
    ),
    "root/.ssh/id_ed25519": ("an SSH key", b"binary\0"),
    "root/.oci/config": ("OCI's configuration or keys", b"[DEFAULT]\nregion=x\n"),
    "root/.oci/oci_api_key.pem": ("OCI's configuration or keys", b"x"),
    "root/.oci/sessions/DEFAULT/token": ("OCI's configuration or keys", b"x"),
    "root/.kube/config": ("a Kubernetes configuration", b"apiVersion: v1\n"),
    "root/.aws/credentials": ("AWS credentials", b"[default]\n"),
    "root/.huggingface/token": ("a Hugging Face token", b"x"),
    HF_TOKEN: ("a Hugging Face token", b"x"),
    "root/.git-credentials": ("a tool's stored login", b"x"),
    "app/.env": ("a tool's stored login", b"A=b\n"),
    "app/server.p12": ("a key store", b"\0\1"),
}


@pytest.mark.parametrize("path", CREDENTIAL_FILES)
def test_a_tools_credential_file_is_found(path):
    rule, content = CREDENTIAL_FILES[path]
    assert found([(path, content)]) == {(path, rule)}


CHECKPOINT_FILES = [
    "models/model-00001-of-00002.safetensors",
    "models/model.safetensors.index.json",
    "models/pytorch_model-00001-of-00002.bin",
    "falcon.Q4_0.gguf",
    "engines/rank0.engine",
    "engines/falcon_tp2_rank1.engine",
    "cache/model.cache",
    "models/tokenizer.json",
    "models/openvino_model.bin",
]


@pytest.mark.parametrize("path", CHECKPOINT_FILES)
def test_a_checkpoints_file_is_found_by_its_name(path):
    kinds = {rule.name: rule.kind for rule in load_rules().files}
    ((place, rule),) = found([(path, b"\0" * 600)])
    assert (place, kinds[rule]) == (path, "checkpoint")


def test_links_and_empty_files_and_configuration_without_a_secret_are_no_finding():
    files = [
        ("opt/model/tokenizer.json", "/opt/ds/model/deployed_model/tokenizer.json"),
        ("root/.netrc", b""),
        ("home/b/.docker/config.json", b'{"credsStore": "desktop", "auths": {"r": {}}}'),
        ("etc/pip.conf", b"[global]\nindex-url = https://pypi.org/simple\n"),
        ("usr/lib/python3.11/site-packages/distutils-precedence.pth", b"import os"),
        ("app/settings.json", b'{"auth": "required", "auth_mode": "none"}'),
        ("app/.npmrc", b"//registry.npmjs.org/:_authToken=${NPM_TOKEN}\n"),
        ("doc/a", b"git clone https://user:password@host.company.net/a.git"),
        ("doc/b", b"curl https://ci:f8s7d6f5@www.example.com/"),
        ("doc/c", b"Access keys look like AKIAIOSFODNN7EXAMPLE."),
        ("doc/d", b"aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        ("lib/a.js", b"const url = `https://${user}:${token}@${host}`;"),
        ("lib/b.py", b"xhf_" + LETTERS[:34].encode()),
    ]
    assert found(files) == set()


def test_keys_that_packages_test_themselves_with_are_allowed_and_the_same_keys_elsewhere_not():
    key = KEYS["rsa PKCS8"]
    package = "usr/lib/python3.11/site-packages/gevent/tests/server.key"
    assert found([(package, key), ("app/server.key", key)]) == {("app/server.key", "a private key")}


SECRET = "kT9)q[Wd}s2;Xv"  # an OCI auth token has no form of its own


@pytest.mark.parametrize(
    "content",
    [
        SECRET.encode(),
        b"\x7fELF\0\0" + SECRET.encode() + b"\0",
        b"a" * (PIECE - 5) + SECRET.encode(),
        b"\0" * (3 * PIECE - 9) + SECRET.encode() + b"\0" * PIECE,
    ],
)
def test_a_known_secret_is_found_in_every_kind_of_file_across_pieces(content):
    assert found([("any", content)], [SECRET]) == {("any", KNOWN_SECRET)}
    assert found([("any", content)]) == set()


def test_a_known_secret_is_found_where_other_rules_are_allowed_to_be_broken():
    path = "usr/share/doc/readme"
    assert found([(path, SECRET.encode())], [SECRET]) == {(path, KNOWN_SECRET)}


def test_a_known_secret_that_is_a_whole_key_is_found_across_pieces():
    key = KEYS["rsa PKCS8"].decode()
    content = b"\0" * (PIECE - 900) + key.encode()
    assert found([("any", content)], [key]) == {("any", KNOWN_SECRET)}


def test_a_token_across_two_pieces_of_a_text_is_found():
    token = TOKENS["a GitHub token"].encode()
    content = b"# comment\n" * (PIECE // 10) + token
    for shift in (0, 10, 25):
        assert found([("log", b"\n" * shift + content)]) == {("log", "a GitHub token")}


def test_the_scanner_does_not_show_the_secrets_that_it_looks_for():
    assert SECRET not in repr(Scanner(load_rules(), [SECRET]))


def test_the_count_of_suspicions_is_bounded():
    layer = tar([(f"a{number}.gguf", b"x") for number in range(500)])
    record = examine_layer(chunks(layer, PIECE), len(layer), None, Scanner(load_rules()))
    assert len(record.suspicions) + record.more_suspicions == 500
    assert len(record.suspicions) == 200
