"""HTTP of an instance's metadata, and of the federation that makes a session of its certificate.

Paths and shapes are those that `oci/auth` asks for (2.189.0): the base URL is whatever
`OCI_METADATA_BASE_URL` says, and the signer takes the other as `federation_endpoint`.
"""

from __future__ import annotations

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from local_oci.http.errors import invalid_parameter, not_authenticated, not_found
from local_oci.http.messages import json_response, read_details
from local_oci.http.middleware import signed_request, this_machine_only
from local_oci.http.signatures import check_body, key_id_of, verify_with
from local_oci.identity import REGION, issue, private_key
from local_oci.limits import SESSION_LIFETIME
from local_oci.services.cloud import cloud_of
from local_oci.services.sessions.issuing import METADATA_BASE, Instance, instance_of
from local_oci.storage.records import WireModel, now

FEDERATION_PATH = "/v1/x509"
# Signed with the certificate's key, which is no user's.
SELF_AUTHENTICATING = frozenset({FEDERATION_PATH})

# AuthTokenRequestSigner in `oci/auth/federation_client.py`: no host.
_SIGNED = frozenset({"(request-target)", "content-length", "content-type", "x-content-sha256"})
_METADATA_HEADER = "Bearer Oracle"


class FederationRequest(WireModel):
    """Body of the federation: the public key of the session, base64 of its DER."""

    certificate: str
    public_key: str


@this_machine_only
async def get_instance_region(request: Request) -> Response:
    """The region of the instance."""
    _instance(request)
    return PlainTextResponse(REGION)


@this_machine_only
async def get_instance_certificate(request: Request) -> Response:
    """The certificate of the instance; the one between it and an authority is itself."""
    return PlainTextResponse(_instance(request).certificate)


@this_machine_only
async def get_instance_key(request: Request) -> Response:
    """The private key of the certificate."""
    return PlainTextResponse(_instance(request).key)


async def federate(request: Request) -> Response:
    """A session token for a key that the instance vouches for."""
    cloud = cloud_of(request)
    instance = instance_of(cloud.home)
    signed = signed_request(request.scope, body_is_signed=True)
    tenancy = cloud.identity.tenancy
    expected = f"{tenancy}/fed-x509/{instance.fingerprint()}" if instance.exists else None
    if expected is None or key_id_of(signed) != expected:
        raise not_authenticated("the keyId is not the certificate of this directory's instance")
    verify_with(signed, instance.public_key(), now(), _SIGNED)
    check_body(await request.body(), signed.headers)
    details = await read_details(request, FederationRequest)
    subject = instance.identifier()
    claims = {"sub": subject, "ptype": "instance", "opc-tenant": tenancy, "opc-instance": subject}
    session = _public_key(details.public_key)
    token = issue(private_key(cloud.home), session, claims, now(), SESSION_LIFETIME)
    return json_response({"token": token})


def _public_key(text: str) -> rsa.RSAPublicKey:
    pem = f"-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n"
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise invalid_parameter("publicKey: it is not a public key in base64.") from error
    if not isinstance(key, rsa.RSAPublicKey):
        raise invalid_parameter("publicKey: it is not an RSA key.")
    return key


def _instance(request: Request) -> Instance:
    instance = instance_of(cloud_of(request).home)
    knows = instance.is_secret(request.path_params["secret"])
    if not knows or request.headers.get("authorization") != _METADATA_HEADER:
        raise not_found()
    return instance


ROUTES = [Route(FEDERATION_PATH, federate, methods=["POST"])]
LOCAL_ROUTES = [
    Route(f"{METADATA_BASE}/instance/region", get_instance_region, methods=["GET"]),
    Route(f"{METADATA_BASE}/identity/cert.pem", get_instance_certificate, methods=["GET"]),
    Route(f"{METADATA_BASE}/identity/intermediate.pem", get_instance_certificate, methods=["GET"]),
    Route(f"{METADATA_BASE}/identity/key.pem", get_instance_key, methods=["GET"]),
]
