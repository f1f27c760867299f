"""The model catalog of a running local_oci: one model an artifact, whatever goes wrong."""

import multiprocessing
import threading

import oci
import pytest

from falconry.cloud.session import Session
from falconry.deployment.catalog import Catalog, prune_models
from falconry.deployment.provenance import Provenance
from falconry.errors import CloudError
from tests.falconry.cloud.conftest import WATCH, content, entry, quiet


@pytest.fixture
def artifact(make_artifact):
    return make_artifact("hello")


@pytest.fixture
def client(session):
    return session.client(oci.data_science.DataScienceClient)


def holders(session, path):
    """The models that are tagged with an artifact."""
    return [
        model.id
        for model in Catalog(session).models()
        if model.freeform_tags["falconry-artifact"] == path.digest
    ]


def test_an_artifact_is_uploaded_once(session, artifact):
    steps = []
    catalog = Catalog(session)
    model = catalog.ensure(entry(artifact), artifact.view(), lambda *step: steps.append(step))
    assert steps[-1] == ("uploading the artifact", 1.0)
    assert catalog.ensure(entry(artifact), artifact.view(), steps.clear) == model
    assert holders(session, artifact) == [model]


def test_the_catalog_tells_what_a_model_is_and_where_it_comes_from(session, artifact, client):
    provenance = Provenance("https://example.com/falconry.git", "main", "a" * 40)
    told = entry(
        artifact,
        description="cpu: tiny Falcon",
        facts={"engine": "b" * 64, "license": "apache-2.0"},
        provenance=provenance,
    )
    model = client.get_model(Catalog(session).ensure(told, artifact.view(), quiet)).data
    assert model.description == "cpu: tiny Falcon"
    items = {item.key: (item.value, item.category) for item in model.custom_metadata_list}
    # The categories are those of oci.data_science.models.Metadata.
    assert items["openvino"] == ("2025.4", "Training Environment")
    assert items["license"] == ("apache-2.0", "other")
    assert items["engine"] == ("b" * 64, "other")
    found = client.get_model_provenance(model.id).data
    assert found.git_commit == "a" * 40
    assert found.git_branch == "main"
    assert found.repository_url == "https://example.com/falconry.git"


def test_models_are_versions_in_the_profiles_set(session, make_artifact, client):
    paths = [make_artifact(word, word) for word in ("one", "two")]
    models = [
        client.get_model(Catalog(session).ensure(entry(path), path.view(), quiet)).data
        for path in paths
    ]
    sets = client.list_model_version_sets(session.compartment_id, name="falconry").data
    assert {model.model_version_set_id for model in models} == {sets[0].id}
    assert len(sets) == 1
    assert len({model.version_label for model in models}) == 2


def test_a_profile_without_a_set_makes_none(make_settings, artifact, client):
    settings = make_settings()
    cloud = settings.cloud.model_copy(update={"model_version_set": None})
    model = Catalog(Session(cloud)).ensure(entry(artifact), artifact.view(), quiet)
    assert client.get_model(model).data.model_version_set_id is None


def test_a_model_whose_upload_was_never_finished_is_filled_and_not_made_twice(
    session, artifact, cloud
):
    cloud.fault(kind="status", operation="create_model_artifact", status=400, times=1)
    with pytest.raises(CloudError, match="uploading the artifact was refused: 400"):
        Catalog(session).ensure(entry(artifact), artifact.view(), quiet)
    left = holders(session, artifact)
    assert [Catalog(session).ensure(entry(artifact), artifact.view(), quiet)] == left
    assert holders(session, artifact) == left


def test_a_model_that_holds_other_bytes_is_left_and_another_is_made(session, artifact, client):
    catalog = Catalog(session)
    wrong = client.create_model(
        oci.data_science.models.CreateModelDetails(
            compartment_id=session.compartment_id,
            project_id=catalog.project(),
            freeform_tags={"falconry-artifact": artifact.digest},
        )
    ).data.id
    client.create_model_artifact(wrong, b"half", content_disposition="attachment; filename=a.zip")
    model = catalog.ensure(entry(artifact), artifact.view(), quiet)
    assert model != wrong
    assert client.get_model_artifact_content(model).data.content == content(artifact)


def test_a_deactivated_model_is_activated_and_not_made_anew(session, artifact, client):
    catalog = Catalog(session)
    model = catalog.ensure(entry(artifact), artifact.view(), quiet)
    client.deactivate_model(model)
    assert catalog.ensure(entry(artifact), artifact.view(), quiet) == model
    assert client.get_model(model).data.lifecycle_state == "ACTIVE"


def test_a_deleted_model_is_made_anew(session, artifact, client):
    catalog = Catalog(session)
    first = catalog.ensure(entry(artifact), artifact.view(), quiet)
    client.delete_model(first)
    second = catalog.ensure(entry(artifact), artifact.view(), quiet)
    assert second != first
    assert holders(session, artifact) == [second]


def ensure_in_a_process(settings, path, commit, results):
    """What one of several runners does; each comes from another commit."""
    told = entry(path, facts={"image": commit}, provenance=Provenance(commit=commit))
    results.put(Catalog(Session(settings)).ensure(told, path.view(), quiet))


def test_runners_that_race_share_one_model(make_settings, session, artifact):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    settings = make_settings("cloud.project=race cloud.model_version_set=race").cloud
    runners = [
        context.Process(
            target=ensure_in_a_process, args=(settings, artifact, str(number) * 40, results)
        )
        for number in range(3)
    ]
    for runner in runners:
        runner.start()
    found = {results.get(timeout=60) for _ in runners}
    for runner in runners:
        runner.join()
    assert holders(Session(settings), artifact) == list(found)


def test_old_models_are_deactivated_or_deleted_and_used_ones_stay(
    session, make_artifact, make_target, deployments, client
):
    deployments.apply(make_target("used"), WATCH)
    models = []
    for word in ("old", "older", "new"):
        path = make_artifact(word, word)
        models.append(Catalog(session).ensure(entry(path), path.view(), quiet))
    pruned = {each.id: each.outcome for each in prune_models(session, "a model", 1, delete=False)}
    assert [pruned[model] for model in models] == ["deactivated", "deactivated", "kept"]
    assert client.get_model(models[0]).data.lifecycle_state == "INACTIVE"
    used = [model for model, outcome in pruned.items() if outcome == "in use"]
    assert used == [make_target("used").model_id]
    gone = {each.id: each.outcome for each in prune_models(session, "a model", 1, delete=True)}
    assert [gone[model] for model in models] == ["deleted", "deleted", "kept"]
    assert client.get_model(models[0]).data.lifecycle_state == "DELETED"


def test_a_model_that_came_into_use_meanwhile_stays(session, artifact, cloud):
    model = Catalog(session).ensure(entry(artifact, name="busy"), artifact.view(), quiet)
    cloud.fault(kind="status", operation="delete_model", status=409, code="IncorrectState")
    (pruned,) = prune_models(session, "busy", 0, delete=True)
    assert (pruned.id, pruned.outcome) == (model, "in use")


def test_the_project_is_made_once(make_settings):
    cloud = make_settings("cloud.project=together").cloud
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(Catalog(Session(cloud)).project()))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
