"""Sets of model versions, with the SDK."""

from tests.local_oci.support import Sdk, ds, refusal


def make_set(sdk: Sdk, name: str) -> object:
    details = ds.CreateModelVersionSetDetails(
        compartment_id=sdk.compartment, project_id=sdk.project(), name=name
    )
    return sdk.data_science.create_model_version_set(details).data


def test_a_set_is_found_by_its_name(sdk: Sdk) -> None:
    made = make_set(sdk, "found")
    (found,) = sdk.data_science.list_model_version_sets(sdk.compartment, name="found").data
    assert found.id == made.id  # type: ignore[attr-defined]
    read = sdk.data_science.get_model_version_set(found.id).data
    assert (read.name, read.lifecycle_state) == ("found", "ACTIVE")


def test_a_name_is_taken_once(sdk: Sdk) -> None:
    make_set(sdk, "taken")
    assert refusal(lambda: make_set(sdk, "taken")) == (409, "Conflict")


def test_a_model_belongs_to_a_set_that_is_there(sdk: Sdk) -> None:
    made = make_set(sdk, "versions")

    def create(version_set: str) -> object:
        return sdk.data_science.create_model(
            ds.CreateModelDetails(
                compartment_id=sdk.compartment,
                project_id=sdk.project(),
                model_version_set_id=version_set,
                version_label="one",
            )
        ).data

    model = create(made.id)  # type: ignore[attr-defined]
    assert model.model_version_set_id == made.id  # type: ignore[attr-defined]
    assert model.version_label == "one"  # type: ignore[attr-defined]
    missing = "ocid1.datasciencemodelversionset.oc1..nothing"
    assert refusal(lambda: create(missing)) == (400, "RelatedResourceNotAuthorizedOrNotFound")
