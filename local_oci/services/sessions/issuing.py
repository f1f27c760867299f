"""Makes sessions in a cloud's directory, for the SDK's own ways of signing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa

from local_oci.home import Home
from local_oci.identity import (
    REGION,
    Identity,
    add_profile,
    fingerprint_of,
    new_key,
    private_key,
    to_pem,
    write_secret,
)
from local_oci.services.sessions.instance import METADATA_BASE, instance_of
from local_oci.services.sessions.tokens import issue
from local_oci.storage.ids import new_ocid, now


@dataclass(frozen=True, slots=True)
class SessionFiles:
    """Where a session is.

    Args:
        token: file with its token.
        key: file with its private key.
    """

    token: Path
    key: Path


def issue_user_session(home: Home, identity: Identity, name: str, lifetime: timedelta) -> None:
    """A session of the user, as `oci session authenticate` makes it: a profile of the config file.

    Args:
        home: the cloud's directory.
        identity: its user.
        name: of the profile.
        lifetime: of the session.
    """
    claims = {"sub": identity.user, "tenant": identity.tenancy, "ptype": "user"}
    key, files = _issue(home, name, claims, lifetime)
    add_profile(
        home,
        name,
        {
            "tenancy": identity.tenancy,
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
    resource = new_ocid("datasciencejobrun")
    claims = {
        "sub": resource,
        "ptype": "resource",
        "res_id": resource,
        "res_type": "datasciencejobrun",
        "res_tenant": identity.tenancy,
        "res_compartment": identity.tenancy,
    }
    _, files = _issue(home, name, claims, lifetime)
    return {
        "OCI_RESOURCE_PRINCIPAL_VERSION": "2.2",
        "OCI_RESOURCE_PRINCIPAL_RPST": str(files.token),
        "OCI_RESOURCE_PRINCIPAL_PRIVATE_PEM": str(files.key),
        "OCI_RESOURCE_PRINCIPAL_REGION": REGION,
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
    directory = home.sessions / name
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = SessionFiles(directory / "token", directory / "key.pem")
    key = new_key()
    token = issue(private_key(home), key.public_key(), claims, now(), lifetime)
    write_secret(files.key, to_pem(key))
    write_secret(files.token, token.encode())
    return key, files
