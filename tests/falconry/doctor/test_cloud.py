"""What is said of the account and the clock, with configurations as the SDK reads them."""

import contextlib
import datetime
import email.utils
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from falconry.cloud import session as session_module
from falconry.deployment import account as account_module
from falconry.deployment.policies import scope_of
from falconry.deployment.preflight.subject import Account
from falconry.doctor import network_checks
from falconry.doctor.network_checks import account, clock, of_server
from falconry.errors import CloudError, MachineError
from falconry.settings import load_settings

ROOT = Path(__file__).parents[3]
SECRET = "pass-phrase-of-the-key"
_KEY = rsa.generate_private_key(65537, 2048)


@pytest.fixture
def directory():
    """A directory that every user may look into, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def somebody_else(directory):
    """Has a block run as a user who may read the configuration and not the key."""

    @contextlib.contextmanager
    def acting():
        (directory / "config").chmod(0o644)
        (directory / "key.pem").chmod(0o000)
        before = os.geteuid()
        if before == 0:
            os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(before)

    return acting


@pytest.fixture
def config(directory):
    """Writes a configuration file with a key; gives the overrides of a profile that uses it."""

    def write(key=None, **changes):
        key_file = directory / "key.pem"
        key_file.write_bytes(_private() if key is None else key)
        values = {
            "user": "ocid1.user.oc1..aaaaaaaauser",
            "tenancy": "ocid1.tenancy.oc1..aaaaaaaatenancy",
            "fingerprint": ":".join(16 * ["ab"]),
            "region": "eu-frankfurt-1",
            "key_file": str(key_file),
            **changes,
        }
        lines = [f"{name}={value}" for name, value in values.items() if value is not None]
        (directory / "config").write_text("\n".join(["[DEFAULT]", *lines]) + "\n")
        return f"cloud.config_file={directory}/config"

    return write


def test_a_valid_configuration_with_its_key_is_well(subject, config):
    found = account(subject("oci", overrides=config()))
    assert found.state == "ok"
    assert "eu-frankfurt-1" in found.text


def test_an_encrypted_key_is_well_with_its_pass_phrase_which_is_not_shown(subject, config):
    found = account(subject("oci", overrides=config(_private(SECRET), pass_phrase=SECRET)))
    assert found.state == "ok"
    assert SECRET not in str(found)


@pytest.mark.parametrize(
    ("key", "changes", "problem"),
    [
        (b"no key", {}, "the key cannot be used"),
        (None, {"key_file": "/nowhere/key.pem"}, "cannot be used: .*key.pem"),
        (None, {"user": None}, "cannot be used: .*user"),
        (None, {"fingerprint": "abc"}, "cannot be used: .*fingerprint"),
    ],
)
def test_a_configuration_that_cannot_be_used_says_why(subject, config, key, changes, problem):
    with pytest.raises(CloudError, match=problem):
        account(subject("oci", overrides=config(key, **changes)))


def test_a_key_that_this_user_may_not_read_is_told_as_such(subject, config, somebody_else):
    overrides = config()
    examined = subject("oci", overrides=overrides)
    account(examined)  # with it everything is imported that somebody else might not read
    with somebody_else(), pytest.raises(CloudError, match=r"cannot be read \(Permission denied\)"):
        account(examined)


def test_a_key_with_a_pass_phrase_that_nobody_gave_is_told_as_such(subject, config):
    with pytest.raises(CloudError, match="passphrase"):
        account(subject("oci", overrides=config(_private(SECRET))))


def test_a_public_key_is_told_as_such(subject, config):
    public = _KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    with pytest.raises(CloudError, match="public key"):
        account(subject("oci", overrides=config(public)))


def test_a_missing_configuration_is_told(subject, tmp_path):
    with pytest.raises(CloudError, match="cannot be used"):
        account(subject("oci", overrides=f"cloud.config_file={tmp_path}/none"))


def test_the_local_clouds_configuration_may_be_missing_before_its_first_start(subject, tmp_path):
    found = account(subject(overrides=f"cloud.config_file={tmp_path}/none"))
    assert found.state == "skipped"
    assert "first start" in found.text


# --- The clock -----------------------------------------------------------------------------------


def test_a_clock_a_few_minutes_off_is_well(server):
    found = of_server(f"http://{server(404, [_date(minutes=4)])}/")
    assert found.state == "ok"


@pytest.mark.parametrize(("minutes", "words"), [(6, "behind"), (-6, "ahead of")])
def test_a_clock_that_the_cloud_would_refuse_is_told_with_its_direction(server, minutes, words):
    found = of_server(f"http://{server(404, [_date(minutes=minutes)])}/")
    assert found.state == "failed"
    assert f" s {words} that of" in found.text
    assert "NTP" in found.remedy


def test_a_server_without_a_date_says_nothing_of_the_clock(server):
    assert of_server(f"http://{server(404)}/").state == "skipped"


def test_a_cloud_that_does_not_answer_is_told(closed_port):
    with pytest.raises(MachineError, match="cannot be reached"):
        of_server(f"http://127.0.0.1:{closed_port}/")


def test_the_clock_is_asked_of_the_regions_own_endpoint(subject, config, monkeypatch):
    asked = []
    monkeypatch.setattr("falconry.doctor.network_checks.of_server", asked.append)
    clock(subject("oci", overrides=config()))
    # Oracle's list of endpoints, Data Science API.
    assert asked == ["https://datascience.eu-frankfurt-1.oci.oraclecloud.com"]


def test_without_a_configuration_the_clock_refers_to_it(subject, tmp_path):
    found = clock(subject("oci", overrides=f"cloud.config_file={tmp_path}/none"))
    assert found.state == "failed"
    assert "see cloud" in found.text


def test_the_local_cloud_needs_no_clock(subject):
    assert clock(subject()).state == "skipped"


def _date(minutes):
    when = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=minutes)
    return "Date", email.utils.format_datetime(when, usegmt=True)


def _private(pass_phrase=None):
    encryption = (
        serialization.BestAvailableEncryption(pass_phrase.encode())
        if pass_phrase
        else serialization.NoEncryption()
    )
    return _KEY.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, encryption
    )


STATEMENTS = {
    "all": [
        "Allow any-user to manage all-resources in tenancy",
        "Allow service datascience, objectstorage-us-ashburn-1 to manage object-family in tenancy",
    ],
    # Of people, who are no dynamic group.
    "people": ["allow group Administrators to manage all-resources in tenancy"],
}


@pytest.mark.parametrize(
    ("kind", "state", "said"),
    [("all", "ok", "rights"), ("people", "warning", "read repos"), ("", "skipped", "404")],
    ids=["given", "missing", "unread"],
)
def test_the_policies_that_can_be_read_are_checked(monkeypatch, kind, state, said):
    settings = load_settings(ROOT, "oci")
    scope = scope_of(settings, "ocid1.tenancy.oc1..t", "us-ashburn-1")
    account = Account(statements=STATEMENTS.get(kind), scope=scope, reason="404")
    monkeypatch.setattr(session_module, "session_of", lambda _: None)
    monkeypatch.setattr(account_module, "read_policies", lambda *_: account)
    found = network_checks.policies(SimpleNamespace(settings=settings))
    assert (found.state, said in found.text) == (state, True)
    assert "make policies" in found.remedy or state == "ok"


def test_policies_of_a_stopped_local_cloud_are_not_looked_for(tmp_path):
    settings = load_settings(ROOT, overrides=f"cloud.emulator.directory={tmp_path}")
    assert network_checks.policies(SimpleNamespace(settings=settings)).state == "skipped"
