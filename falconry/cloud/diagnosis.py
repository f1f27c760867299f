"""What can be said of a profile's account without asking the cloud."""

from __future__ import annotations

import oci

from falconry.cloud.identity import identity_of, read_config
from falconry.errors import CloudError
from falconry.settings import CloudSettings

# As the SDK has them in DataScienceClient, which wants a key as well (oci 2.189.0).
_SERVICE = "data_science"
_ENDPOINT = "https://datascience.{region}.oci.{secondLevelDomain}"


def account_of(settings: CloudSettings) -> str:
    """The account's region and user, once its configuration and key are found to be usable.

    Raises:
        CloudError: the configuration or the key cannot be used.
    """
    if settings.auth.endswith("principal"):
        return f"{settings.auth}, which is found out when the cloud is first asked"
    config = read_config(settings)
    if key_file := config.get("key_file"):
        _load_key(str(key_file), config.get("pass_phrase"))
    return f"{config['region']}, user {str(config.get('user', ''))[-6:] or 'by token'}"


def endpoint_of(settings: CloudSettings) -> str:
    """The URL that model deployments are managed at in the profile's region of Oracle's cloud.

    Raises:
        CloudError: the configuration cannot be used.
    """
    region = identity_of(settings).region
    return str(oci.regions.endpoint_for(_SERVICE, region, service_endpoint_template=_ENDPOINT))


def _load_key(path: str, pass_phrase: str | None) -> None:
    try:
        oci.signer.load_private_key_from_file(path, pass_phrase)
    except OSError as error:
        raise CloudError(
            f"the key cannot be read ({error.strerror})",
            where=path,
            remedy="let this user read it, and nobody else",
        ) from None
    except oci.exceptions.ClientError as error:
        raise CloudError(
            f"the key cannot be used ({str(error).rstrip('.')})",
            where=path,
            remedy="name the private key of the API key in PEM form, and its pass_phrase if any",
        ) from None
