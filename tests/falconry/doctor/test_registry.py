"""What is said of the registry, with a real one and with ports that are none."""

import datetime
import ipaddress
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from falconry.doctor.network_checks import ask, registry, registry_program
from falconry.doctor.subject import Registry
from falconry.errors import ImageError, MachineError


def test_a_registry_without_login_is_well_when_it_answers(subject, registry_host):
    found = registry(subject("oci", registry=lambda: Registry(registry_host)))
    assert (found.state, found.text) == ("ok", f"{registry_host} answers; no login is set")


def test_a_login_that_the_registry_takes_is_well(subject, registry_host):
    asked = []
    here = Registry(registry_host, lambda: asked.append("asked"))
    found = registry(subject("oci", registry=lambda: here))
    assert (found.state, asked) == ("ok", ["asked"])
    assert found.text.endswith("takes the login")


def test_a_login_that_the_registry_refuses_is_told_in_its_words(subject, registry_host):
    def refused():
        raise ImageError("the token has expired", where=registry_host, remedy="make a new one")

    with pytest.raises(ImageError, match="the token has expired"):
        registry(subject("oci", registry=lambda: Registry(registry_host, refused)))


def test_a_registry_that_wants_a_login_answers_too(subject, server):
    # distribution, docs/spec/api.md: 401 for who is not logged in.
    host = server(401, [("WWW-Authenticate", 'Basic realm="here"')])
    assert registry(subject("oci", registry=lambda: Registry(host))).state == "ok"


def test_a_closed_port_is_told(subject, closed_port):
    with pytest.raises(MachineError, match=f"127.0.0.1:{closed_port} cannot be reached"):
        registry(subject("oci", registry=lambda: Registry(f"127.0.0.1:{closed_port}")))


def test_a_server_that_is_no_registry_is_told(subject, server):
    host = server(404)
    with pytest.raises(MachineError, match=r"not answer like a container registry \(status 404\)"):
        registry(subject("oci", registry=lambda: Registry(host)))


def test_a_certificate_that_is_not_trusted_here_is_told_as_such(server, tmp_path):
    host = server(200, tls=_self_signed(tmp_path))
    with pytest.raises(MachineError, match="not trusted") as raised:
        ask(f"https://{host}/v2/")
    assert "REQUESTS_CA_BUNDLE" in raised.value.remedy


def test_the_local_clouds_registry_is_not_asked_for(subject):
    found = registry(subject())
    assert found.state == "skipped"
    assert found.text.startswith("not needed")


# --- The program that the local cloud runs -------------------------------------------------------


def test_an_installed_registry_program_is_named_by_its_place(subject, tmp_path, monkeypatch):
    program = tmp_path / "docker-registry"
    program.write_text("")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = registry_program(subject())
    assert (found.state, found.text) == ("ok", str(program))


@pytest.mark.parametrize(("containers", "state"), [(True, "failed"), (False, "skipped")])
def test_a_missing_registry_program_is_wrong_where_containers_are_asked_for(
    subject, tmp_path, monkeypatch, containers, state
):
    monkeypatch.setenv("PATH", str(tmp_path))
    found = registry_program(subject(containers=containers))
    assert found.state == state
    assert found.remedy == "run: sudo apt-get install docker-registry"


def test_a_profile_of_the_real_cloud_needs_no_registry_program(subject):
    assert registry_program(subject("oci")).state == "skipped"


def _self_signed(directory):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    place = directory / "server.pem"
    place.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(place)
    return context
