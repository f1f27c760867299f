"""Makes sessions in a cloud's directory, for the SDK's own ways of signing.

An instance principal is what the metadata service of a compute instance says of it. Any process
that reads the metadata can act as the instance, so their address holds a secret.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from local_oci.home import Home, write_secret
from local_oci.identity import (
    REGION,
    Identity,
    add_profile,
    fingerprint_of,
    issue,
    new_key,
    private_key,
    to_pem,
)
from local_oci.storage.records import new_ocid, now

# Path of the metadata, below the endpoint.
METADATA_BASE = "/_local/metadata/{secret}"

_IDENTIFIER = "opc-instance:"
_CERTIFICATE_LIFETIME = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class SessionFiles:
    """Where a session is."""

    token: Path
    key: Path


def issue_user_session(home: Home, identity: Identity, name: str, lifetime: timedelta) -> None:
    """A session of the user, as `oci session authenticate` makes it: a profile of the config.

    The tenancy is that of the profile DEFAULT, which the SDK and the CLI read for all profiles.
    """
    claims = {"sub": identity.user, "tenant": identity.tenancy, "ptype": "user"}
    key, files = _issue(home, name, claims, lifetime)
    add_profile(
        home,
        name,
        {
            "region": REGION,
            "fingerprint": fingerprint_of(key.public_key()),
            "key_file": str(files.key),
            "security_token_file": str(files.token),
        },
    )


def issue_resource_principal(
    home: Home, identity: Identity, name: str, lifetime: timedelta
) -> dict[str, str]:
    """A resource principal, version 2.2, as a job of Data Science has it.

    Returns:
        The environment that `oci.auth.signers.get_resource_principals_signer` reads.
    """
    claims = _resource_claims(identity, new_ocid("datasciencejobrun"), identity.tenancy)
    _, files = _issue(home, name, claims, lifetime)
    return {
        "OCI_RESOURCE_PRINCIPAL_VERSION": "2.2",
        "OCI_RESOURCE_PRINCIPAL_RPST": str(files.token),
        "OCI_RESOURCE_PRINCIPAL_PRIVATE_PEM": str(files.key),
        "OCI_RESOURCE_PRINCIPAL_REGION": REGION,
    }


def job_run_principal(
    home: Home, identity: Identity, run_id: str, compartment: str, lifetime: timedelta
) -> dict[str, str]:
    """The same of a job run, with values in place of paths: its container sees no such files."""
    key = new_key()
    claims = _resource_claims(identity, run_id, compartment)
    token = issue(private_key(home), key.public_key(), claims, now(), lifetime)
    return {
        "OCI_RESOURCE_PRINCIPAL_VERSION": "2.2",
        "OCI_RESOURCE_PRINCIPAL_RPST": token,
        "OCI_RESOURCE_PRINCIPAL_PRIVATE_PEM": to_pem(key).decode(),
        "OCI_RESOURCE_PRINCIPAL_REGION": REGION,
    }


def _resource_claims(identity: Identity, resource: str, compartment: str) -> dict[str, str]:
    return {
        "sub": resource,
        "ptype": "resource",
        "res_id": resource,
        "res_type": "datasciencejobrun",
        "res_tenant": identity.tenancy,
        "res_compartment": compartment,
    }


def issue_instance_principal(home: Home, identity: Identity) -> dict[str, str]:
    """An instance principal of a cloud that runs.

    Returns:
        The environment that `oci.auth.signers.InstancePrincipalsSecurityTokenSigner` reads.
    """
    instance = instance_of(home)
    instance.make(identity)
    base = METADATA_BASE.format(secret=instance.secret)
    return {"OCI_METADATA_BASE_URL": f"{home.endpoint.read_text()}{base}"}


def _issue(
    home: Home, name: str, claims: dict[str, str], lifetime: timedelta
) -> tuple[rsa.RSAPrivateKey, SessionFiles]:
    home.sessions.mkdir(mode=0o700, exist_ok=True)  # `parents` would leave it to the umask
    directory = home.sessions / name
    directory.mkdir(mode=0o700, exist_ok=True)
    files = SessionFiles(directory / "token", directory / "key.pem")
    key = new_key()
    token = issue(private_key(home), key.public_key(), claims, now(), lifetime)
    write_secret(files.key, to_pem(key))
    write_secret(files.token, token.encode())
    return key, files


# --- the instance -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Instance:
    """The one instance of a directory.

    Args:
        directory: holds its files; there is none before `make`.
    """

    directory: Path

    @property
    def exists(self) -> bool:
        """Whether there is one."""
        return self._secret.exists()

    @property
    def certificate(self) -> bytes:
        """Its certificate, PEM."""
        return (self.directory / "cert.pem").read_bytes()

    @property
    def key(self) -> bytes:
        """The private key of the certificate, PEM."""
        return (self.directory / "key.pem").read_bytes()

    @property
    def secret(self) -> str:
        """The secret part of its metadata's address."""
        return self._secret.read_text()

    @property
    def _secret(self) -> Path:
        return self.directory / "secret"

    def is_secret(self, text: str) -> bool:
        """Whether a text is the secret."""
        return self.exists and hmac.compare_digest(self.secret.encode(), text.encode())

    def fingerprint(self) -> str:
        """SHA-1 of the certificate, as the SDK writes it into a keyId."""
        return self.parsed().fingerprint(hashes.SHA1()).hex(":").upper()

    def parsed(self) -> x509.Certificate:
        """The certificate."""
        return x509.load_pem_x509_certificate(self.certificate)

    def identifier(self) -> str:
        """The instance's OCID, from the certificate."""
        names = (str(attribute.value) for attribute in self.parsed().subject)
        return next(name for name in names if name.startswith(_IDENTIFIER)).removeprefix(
            _IDENTIFIER
        )

    def public_key(self) -> rsa.RSAPublicKey:
        """The certificate's key."""
        key = self.parsed().public_key()
        if not isinstance(key, rsa.RSAPublicKey):
            raise TypeError(f"{self.directory}: the certificate has no RSA key")
        return key

    def make(self, identity: Identity) -> None:
        """Make it, unless there is one."""
        if self.exists:
            return
        for directory in (self.directory.parent, self.directory):
            directory.mkdir(mode=0o700, exist_ok=True)
        key = new_key()
        certificate = _certificate(key, identity.tenancy)
        write_secret(self.directory / "key.pem", to_pem(key))
        write_secret(
            self.directory / "cert.pem", certificate.public_bytes(serialization.Encoding.PEM)
        )
        write_secret(self._secret, secrets.token_urlsafe(24).encode())


def instance_of(home: Home) -> Instance:
    """The instance of a cloud's directory, whether or not there is one."""
    return Instance(home.sessions / "instance-metadata")


def _certificate(key: rsa.RSAPrivateKey, tenancy: str) -> x509.Certificate:
    """A certificate of its own making; the SDK finds the tenancy in its subject (auth_utils.py)."""
    units = (
        "opc-certtype:instance",
        f"{_IDENTIFIER}{new_ocid('instance')}",
        f"opc-tenant:{tenancy}",
    )
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit) for unit in units])
    present = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(present - timedelta(minutes=1))
        .not_valid_after(present + _CERTIFICATE_LIFETIME)
        .sign(key, hashes.SHA256())
    )
