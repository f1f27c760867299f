"""Auth tokens of the one user: the passwords of clients that cannot sign."""

from __future__ import annotations

import oci
import pytest

from tests.local_oci.support import LocalCloud, Sdk, refusal

_OTHER_USER = "ocid1.user.oc1..aaaaother"


def _details(description: str = "of a test"):
    return oci.identity.models.CreateAuthTokenDetails(description=description)


@pytest.fixture
def user(sdk: Sdk):
    yield sdk.config["user"]
    for token in sdk.identity.list_auth_tokens(sdk.config["user"]).data:
        sdk.identity.delete_auth_token(sdk.config["user"], token.id)


def test_an_auth_token_can_be_read_only_when_it_is_created(sdk: Sdk, user: str) -> None:
    created = sdk.identity.create_auth_token(_details("docker"), user).data
    assert len(created.token) == 20
    assert (created.lifecycle_state, created.time_expires) == ("ACTIVE", None)
    (listed,) = sdk.identity.list_auth_tokens(user).data
    assert (listed.id, listed.description, listed.user_id) == (created.id, "docker", user)
    assert listed.token is None


def test_an_auth_token_is_stored_nowhere(sdk: Sdk, user: str, shared_cloud: LocalCloud) -> None:
    token = sdk.identity.create_auth_token(_details(), user, opc_retry_token="once").data.token
    for file in shared_cloud.directory.rglob("*"):
        assert not file.is_file() or token.encode() not in file.read_bytes(), file


def test_a_user_has_two_auth_tokens_at_most(sdk: Sdk, user: str) -> None:
    # OCI CLI reference, iam auth-token: "A user can have up to two auth tokens at a time."
    tokens = [sdk.identity.create_auth_token(_details(), user).data for _ in range(2)]
    assert refusal(lambda: sdk.identity.create_auth_token(_details(), user)) == (
        400,
        "LimitExceeded",
    )
    sdk.identity.delete_auth_token(user, tokens[0].id)
    assert sdk.identity.create_auth_token(_details(), user).status == 200


def test_an_auth_token_that_was_deleted_is_not_found(sdk: Sdk, user: str) -> None:
    token = sdk.identity.create_auth_token(_details(), user).data
    sdk.identity.delete_auth_token(user, token.id)
    assert sdk.identity.list_auth_tokens(user).data == []
    assert refusal(lambda: sdk.identity.delete_auth_token(user, token.id)) == (
        404,
        "NotAuthorizedOrNotFound",
    )


def test_an_auth_token_is_deleted_only_as_the_version_that_was_seen(sdk: Sdk, user: str) -> None:
    created = sdk.identity.create_auth_token(_details(), user)
    token = created.data.id
    assert refusal(lambda: sdk.identity.delete_auth_token(user, token, if_match="other")) == (
        412,
        "NoEtagMatch",
    )
    sdk.identity.delete_auth_token(user, token, if_match=created.headers["etag"])


def test_a_user_of_others_is_not_found(sdk: Sdk) -> None:
    assert refusal(lambda: sdk.identity.list_auth_tokens(_OTHER_USER))[0] == 404
    assert refusal(lambda: sdk.identity.create_auth_token(_details(), _OTHER_USER))[0] == 404
    assert refusal(lambda: sdk.identity.get_user(_OTHER_USER))[0] == 404


def test_the_user_has_a_name(sdk: Sdk, user: str) -> None:
    found = sdk.identity.get_user(user).data
    assert (found.id, found.name, found.lifecycle_state) == (user, "local_oci", "ACTIVE")
    assert found.compartment_id == sdk.config["tenancy"]
