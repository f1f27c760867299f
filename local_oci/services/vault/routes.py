"""HTTP of secrets: of the vault (create, list, delete) and of their content (bundles)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local_oci.http.errors import not_found
from local_oci.http.messages import (
    check_if_match,
    empty_response,
    json_response,
    parse_details,
    read_details,
    record_response,
    required_query,
)
from local_oci.http.pages import list_response
from local_oci.http.retry_tokens import once
from local_oci.services.cloud import cloud_of
from local_oci.services.vault.models import (
    SECRET_TYPE,
    CreateSecretDetails,
    ScheduleDeletionDetails,
    Secret,
    SecretState,
)
from local_oci.storage.records import new_ocid


@once
def create_secret(request: Request, body: bytes) -> Response:
    """Store a secret; that its vault and key exist is not checked: there are none here."""
    details = parse_details(CreateSecretDetails, body)
    secret = Secret(**details.model_dump(), id=new_ocid(SECRET_TYPE))
    return record_response(cloud_of(request).secrets.put(secret))


async def get_secret(request: Request) -> Response:
    """What is known of a secret, without its content."""
    return record_response(_secret(request))


async def list_secrets(request: Request) -> Response:
    """Secrets of a compartment."""
    required_query(request, "compartmentId")
    return list_response(
        request,
        cloud_of(request).secrets.scan(),
        filters={
            "compartmentId": lambda secret: secret.compartment_id,
            "name": lambda secret: secret.secret_name,
            "vaultId": lambda secret: secret.vault_id,
            "lifecycleState": lambda secret: secret.lifecycle_state,
        },
        sort_fields={
            "TIMECREATED": lambda secret: secret.time_created.isoformat(),
            "NAME": lambda secret: secret.secret_name,
        },
    )


async def schedule_secret_deletion(request: Request) -> Response:
    """A secret that is to be deleted is not read any more."""
    secret = _secret(request)
    check_if_match(request, secret)
    details = (
        await read_details(request, ScheduleDeletionDetails)
        if await request.body()
        else ScheduleDeletionDetails()
    )
    cloud_of(request).secrets.change(
        secret,
        lifecycle_state=SecretState.PENDING_DELETION,
        time_of_deletion=details.time_of_deletion,
    )
    return empty_response()


async def get_secret_bundle(request: Request) -> Response:
    """A secret's content."""
    secret = _secret(request)
    if secret.lifecycle_state is not SecretState.ACTIVE:
        raise not_found()
    return json_response(
        {
            "secretId": secret.id,
            "versionNumber": secret.current_version_number,
            "stages": ["CURRENT", "LATEST"],
            "timeCreated": secret.wire()["timeCreated"],
            "secretBundleContent": {
                "contentType": "BASE64",
                "content": secret.secret_content.content,
            },
        }
    )


def _secret(request: Request) -> Secret:
    secret = cloud_of(request).secrets.get(request.path_params["secret_id"])
    if secret is None:
        raise not_found()
    return secret


_VAULT = "/20180608/secrets"
ROUTES = [
    Route(_VAULT, create_secret, methods=["POST"]),
    Route(_VAULT, list_secrets, methods=["GET"]),
    Route(f"{_VAULT}/{{secret_id}}", get_secret, methods=["GET"]),
    Route(
        f"{_VAULT}/{{secret_id}}/actions/scheduleDeletion",
        schedule_secret_deletion,
        methods=["POST"],
    ),
    Route("/20190301/secretbundles/{secret_id}", get_secret_bundle, methods=["GET"]),
]
