"""The Artifacts service: container repositories, images, configuration."""

from __future__ import annotations

import uuid
from pathlib import Path

import oci
import pytest

from local_oci.http.errors import ServiceError
from local_oci.services.registry.contents import Repositories
from local_oci.services.registry.models import Repository
from local_oci.storage.database import Database
from tests.local_oci.registry_client import RegistryClient, digest_of, manifest
from tests.local_oci.support import LocalCloud, Sdk, refusal

models = oci.artifacts.models
NAMESPACE = "localoci"
# Another compartment than the tenancy, so that a list holds what one test made.
COMPARTMENT = "ocid1.compartment.oc1..aaaa{}"


@pytest.fixture
def compartment() -> str:
    return COMPARTMENT.format(uuid.uuid4().hex)


@pytest.fixture
def client(registry_cloud: LocalCloud, auth_token: str) -> RegistryClient:
    host = (registry_cloud.directory / "registry-host").read_text()
    return RegistryClient(host, ("localoci/local_oci", auth_token))


# --- repositories -----------------------------------------------------------------------------


def test_a_repository_is_what_it_was_created_as(registry_sdk: Sdk, compartment: str) -> None:
    name = f"team/{uuid.uuid4().hex}"
    created = registry_sdk.repository(
        compartment_id=compartment,
        display_name=name,
        readme=models.ContainerRepositoryReadme(content="# Read me", format="TEXT_MARKDOWN"),
        freeform_tags={"team": "örtlich"},
    )
    read = registry_sdk.artifacts.get_container_repository(created.id).data
    assert (read.display_name, read.compartment_id) == (name, compartment)
    assert (read.namespace, read.lifecycle_state) == (NAMESPACE, "AVAILABLE")
    assert (read.is_public, read.is_immutable) == (False, False)
    assert (read.image_count, read.layer_count, read.layers_size_in_bytes) == (0, 0, 0)
    assert (read.billable_size_in_gbs, read.time_last_pushed) == (0, None)
    assert read.created_by == registry_sdk.config["user"]
    assert (read.readme.content, read.readme.format) == ("# Read me", "TEXT_MARKDOWN")
    assert read.freeform_tags == {"team": "örtlich"}


def test_a_name_is_taken_in_all_compartments(registry_sdk: Sdk, compartment: str) -> None:
    taken = registry_sdk.repository(compartment_id=compartment).display_name

    def create():
        registry_sdk.repository(display_name=taken)

    assert refusal(create) == (409, "NAMESPACE_CONFLICT")


@pytest.mark.parametrize("name", ["Upper", "two//slashes", "/first", "a:tag", "a" * 250, ""])
def test_a_name_that_no_repository_can_have_is_refused(registry_sdk: Sdk, name: str) -> None:
    def create():
        registry_sdk.repository(display_name=name)

    assert refusal(create) == (400, "InvalidParameter")


def test_a_create_that_is_sent_twice_happens_once(registry_sdk: Sdk, compartment: str) -> None:
    details = models.CreateContainerRepositoryDetails(
        compartment_id=compartment, display_name=f"twice/{uuid.uuid4().hex}"
    )
    first, second = (
        registry_sdk.artifacts.create_container_repository(
            details, opc_retry_token=details.display_name
        ).data.id
        for _ in range(2)
    )
    assert first == second


def test_repositories_are_listed_by_compartment_and_filter(
    registry_sdk: Sdk, compartment: str
) -> None:
    public = registry_sdk.repository(compartment_id=compartment, is_public=True)
    private = registry_sdk.repository(compartment_id=compartment)

    def listed(where: str = compartment, **filters):
        found = registry_sdk.artifacts.list_container_repositories(where, **filters).data
        return [item.id for item in found.items]

    assert listed() == [private.id, public.id]  # the newest one first
    assert listed(sort_order="ASC") == [public.id, private.id]
    assert listed(is_public=True) == [public.id]
    assert listed(display_name=private.display_name) == [private.id]
    assert listed(repository_id=public.id) == [public.id]
    assert listed(lifecycle_state="DELETED") == []
    assert listed(registry_sdk.compartment, repository_id=public.id) == []
    everywhere = listed(registry_sdk.compartment, compartment_id_in_subtree=True, limit=1000)
    assert {public.id, private.id} <= set(everywhere)


def test_a_list_of_repositories_has_pages_and_says_what_is_left(
    registry_sdk: Sdk, compartment: str
) -> None:
    made = sorted(registry_sdk.repository(compartment_id=compartment).display_name for _ in "abc")

    def page(**options):
        return registry_sdk.artifacts.list_container_repositories(
            compartment, sort_by="DISPLAYNAME", limit=2, **options
        )

    first = page()
    assert (first.data.remaining_items_count, first.data.repository_count) == (1, 3)
    last = page(page=first.next_page)
    assert (last.data.remaining_items_count, last.has_next_page) == (0, False)
    assert [item.display_name for item in first.data.items + last.data.items] == made


def test_a_repository_can_be_changed(registry_sdk: Sdk) -> None:
    repository = registry_sdk.repository(freeform_tags={"kept": "yes"})
    details = models.UpdateContainerRepositoryDetails(is_public=True)
    changed = registry_sdk.artifacts.update_container_repository(repository.id, details).data
    assert (changed.is_public, changed.freeform_tags) == (True, {"kept": "yes"})

    def outdated():
        registry_sdk.artifacts.update_container_repository(repository.id, details, if_match="no")

    assert refusal(outdated) == (412, "NoEtagMatch")


def test_a_repository_is_deleted_with_its_images(registry_sdk: Sdk, client) -> None:
    repository = registry_sdk.repository()
    path = f"{NAMESPACE}/{repository.display_name}"
    client.push(path, "1", b"layer")
    registry_sdk.artifacts.delete_container_repository(repository.id)
    assert refusal(lambda: registry_sdk.artifacts.get_container_repository(repository.id)) == (
        404,
        "NotAuthorizedOrNotFound",
    )
    again = registry_sdk.repository(display_name=repository.display_name)
    assert again.id != repository.id
    assert registry_sdk.artifacts.get_container_repository(again.id).data.image_count == 0


def test_a_tenancy_has_500_repositories_at_most(tmp_path: Path) -> None:
    # Oracle's Container Registry FAQ: "Quotas are 500 repos total ... PER region".
    repositories = Repositories(Database(tmp_path / "state"))

    def repository(number: int) -> Repository:
        return Repository(
            id=f"ocid1.containerrepo.oc1..{number}",
            compartment_id=COMPARTMENT,
            display_name=f"r{number}",
            created_by="ocid1.user.oc1..a",
            is_public=False,
            is_immutable=False,
        )

    for number in range(500):
        repositories.add(repository(number))
    with pytest.raises(ServiceError) as refused:
        repositories.add(repository(500))
    assert (refused.value.status, refused.value.code) == (400, "LimitExceeded")


# --- images -----------------------------------------------------------------------------------


def test_an_image_is_what_was_pushed(registry_sdk: Sdk, client, compartment: str) -> None:
    repository = registry_sdk.repository(compartment_id=compartment)
    path = f"{NAMESPACE}/{repository.display_name}"
    digest = client.push(path, "1.0", b"first layer", b"second")
    pushed = client.pull(path, "1.0")
    assert digest == digest_of(pushed)

    (summary,) = registry_sdk.artifacts.list_container_images(compartment).data.items
    assert (summary.digest, summary.version) == (digest, "1.0")
    image = registry_sdk.artifacts.get_container_image(summary.id).data
    assert image.id == summary.id
    assert (image.digest, image.manifest_size_in_bytes) == (digest, len(pushed))
    assert image.display_name == f"{repository.display_name}:1.0"
    assert (image.repository_id, image.compartment_id) == (repository.id, compartment)
    assert image.lifecycle_state == "AVAILABLE"
    layers = {layer.digest: layer.size_in_bytes for layer in image.layers}
    assert layers == {digest_of(b"first layer"): 11, digest_of(b"second"): 6}
    assert list(layers) == sorted(layers)  # ContainerImage.layers: "ordered by the layer digest"
    assert image.layers_size_in_bytes == 17

    counted = registry_sdk.artifacts.get_container_repository(repository.id).data
    assert (counted.image_count, counted.layer_count, counted.layers_size_in_bytes) == (1, 2, 17)
    assert counted.time_last_pushed >= repository.time_created
    totals = registry_sdk.artifacts.list_container_repositories(compartment).data
    assert (totals.image_count, totals.layer_count, totals.layers_size_in_bytes) == (1, 2, 17)


def test_an_image_keeps_what_it_is_when_its_tag_moves_on(
    registry_sdk: Sdk, client, compartment: str
) -> None:
    repository = registry_sdk.repository(compartment_id=compartment)
    path = f"{NAMESPACE}/{repository.display_name}"
    old = client.push(path, "latest", b"old", b"shared")
    new = client.push(path, "latest", b"new", b"shared")
    client.push(path, "2", b"new", b"shared")

    def listed(**filters):
        found = registry_sdk.artifacts.list_container_images(compartment, **filters).data
        return {item.digest for item in found.items}

    assert listed() == {old, new}
    assert listed(is_versioned=False) == {old}
    assert listed(version="latest") == {new}
    assert listed(version="lat*") == {new}
    assert listed(image_digest=old) == {old}
    assert listed(repository_name=f"{repository.display_name[:8]}*") == {old, new}
    assert listed(repository_name="other*") == set()

    (item,) = registry_sdk.artifacts.list_container_images(compartment, image_digest=old).data.items
    assert item.display_name == f"{repository.display_name}:unknown@{old}"
    (item,) = registry_sdk.artifacts.list_container_images(compartment, image_digest=new).data.items
    image = registry_sdk.artifacts.get_container_image(item.id).data
    assert [version.version for version in image.versions] == ["2", "latest"]
    assert image.version == "2"  # "The most recent version associated with this image"
    counted = registry_sdk.artifacts.get_container_repository(repository.id).data
    assert (counted.image_count, counted.layer_count) == (2, 3)


def test_the_same_push_again_makes_no_other_image(
    registry_sdk: Sdk, client, compartment: str
) -> None:
    repository = registry_sdk.repository(compartment_id=compartment)
    path = f"{NAMESPACE}/{repository.display_name}"
    client.push(path, "1", b"layer")
    (before,) = registry_sdk.artifacts.list_container_images(compartment).data.items
    client.push(path, "1", b"layer")
    (after,) = registry_sdk.artifacts.list_container_images(compartment).data.items
    assert (after.id, after.time_created) == (before.id, before.time_created)


def test_an_image_is_found_by_its_uri(registry_sdk: Sdk, client) -> None:
    name = registry_sdk.repository().display_name
    digest = client.push(f"{NAMESPACE}/{name}", "1.0", b"layer")

    def look_up(uri: str):
        details = models.LookupContainerImageByUriDetails(image_uri=uri)
        return registry_sdk.artifacts.lookup_container_image_by_uri(details).data

    assert look_up(f"{NAMESPACE}/{name}:1.0").digest == digest
    assert look_up(f"{NAMESPACE}/{name}@{digest}").versions[0].version == "1.0"
    for absent in (
        f"{NAMESPACE}/{name}:2.0",
        f"{NAMESPACE}/{name}@{digest_of(b'other')}",
        f"{NAMESPACE}/none/{name}:1.0",
        f"elsewhere/{name}:1.0",
        "../../..",
    ):
        assert refusal(lambda uri=absent: look_up(uri)) == (404, "NotAuthorizedOrNotFound")


def test_an_image_is_deleted_with_its_tags(registry_sdk: Sdk, client) -> None:
    repository = registry_sdk.repository()
    path = f"{NAMESPACE}/{repository.display_name}"
    digest = client.push(path, "1", b"layer")
    client.push(path, "2", b"layer")
    kept = client.push(path, "3", b"other")
    details = models.LookupContainerImageByUriDetails(image_uri=f"{path}:1")
    image = registry_sdk.artifacts.lookup_container_image_by_uri(details).data
    registry_sdk.artifacts.delete_container_image(image.id)
    assert refusal(lambda: registry_sdk.artifacts.get_container_image(image.id))[0] == 404
    for reference in ("1", "2", digest):
        with pytest.raises(Exception, match="MANIFEST_UNKNOWN"):
            client.pull(path, reference)
    assert digest_of(client.pull(path, "3")) == kept


def test_a_manifest_that_was_pushed_by_digest_alone_is_an_image(registry_sdk: Sdk, client) -> None:
    repository = registry_sdk.repository()
    path = f"{NAMESPACE}/{repository.display_name}"
    config = b'{"architecture": "amd64", "os": "linux"}'
    digest = digest_of(manifest(config, b"layer"))
    assert client.push(path, digest, b"layer") == digest
    details = models.LookupContainerImageByUriDetails(image_uri=f"{path}@{digest}")
    image = registry_sdk.artifacts.lookup_container_image_by_uri(details).data
    assert (image.digest, image.versions) == (digest, [])


# --- configuration ----------------------------------------------------------------------------


def test_the_configuration_can_be_changed(registry_sdk: Sdk) -> None:
    def configure(created: bool):
        return registry_sdk.artifacts.update_container_configuration(
            registry_sdk.compartment,
            models.UpdateContainerConfigurationDetails(is_repository_created_on_first_push=created),
        ).data

    read = registry_sdk.artifacts.get_container_configuration(registry_sdk.compartment).data
    assert (read.namespace, read.is_repository_created_on_first_push) == (NAMESPACE, True)
    try:
        assert not configure(False).is_repository_created_on_first_push
        read = registry_sdk.artifacts.get_container_configuration(registry_sdk.compartment).data
        assert not read.is_repository_created_on_first_push
    finally:
        configure(True)


def test_a_cloud_without_a_registry_says_so(sdk: Sdk) -> None:
    for call in (
        lambda: sdk.artifacts.list_container_repositories(sdk.compartment),
        lambda: sdk.artifacts.list_container_images(sdk.compartment),
        lambda: sdk.artifacts.get_container_configuration(sdk.compartment),
        sdk.repository,
    ):
        assert refusal(call) == (501, "MethodNotImplemented")
