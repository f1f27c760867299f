"""Secrets of a vault, by the SDK."""

from __future__ import annotations

import base64
from typing import Any

import oci
import pytest

from tests.local_oci.support import Sdk

models = oci.vault.models


@pytest.fixture(scope="module")
def vaults(sdk: Sdk) -> Any:
    return sdk.client(oci.vault.VaultsClient)


@pytest.fixture(scope="module")
def bundles(sdk: Sdk) -> Any:
    return sdk.client(oci.secrets.SecretsClient)


def create(sdk: Sdk, vaults: Any, content: bytes) -> Any:
    details = models.CreateSecretDetails(
        compartment_id=sdk.compartment,
        secret_name="hub-token",
        vault_id="ocid1.vault.oc1..a",
        key_id="ocid1.key.oc1..a",
        secret_content=models.Base64SecretContentDetails(
            content=base64.b64encode(content).decode()
        ),
    )
    return vaults.create_secret(details).data


def test_a_secrets_content_is_in_its_bundle_alone(sdk: Sdk, vaults: Any, bundles: Any) -> None:
    secret = create(sdk, vaults, b"hf_token")
    assert secret.id.startswith("ocid1.vaultsecret.")
    assert secret.lifecycle_state == "ACTIVE"
    assert secret.id in [each.id for each in vaults.list_secrets(sdk.compartment).data]
    assert "content" not in str(vaults.get_secret(secret.id).data)
    bundle = bundles.get_secret_bundle(secret.id).data
    assert base64.b64decode(bundle.secret_bundle_content.content) == b"hf_token"


def test_a_secret_that_is_to_be_deleted_is_not_read(sdk: Sdk, vaults: Any, bundles: Any) -> None:
    secret = create(sdk, vaults, b"old")
    vaults.schedule_secret_deletion(secret.id, models.ScheduleSecretDeletionDetails())
    assert vaults.get_secret(secret.id).data.lifecycle_state == "PENDING_DELETION"
    with pytest.raises(oci.exceptions.ServiceError) as refusal:
        bundles.get_secret_bundle(secret.id)
    assert refusal.value.status == 404
