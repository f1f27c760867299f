import zipfile

import pytest

from falconry.cloud.catalog import Catalog
from falconry.digests import bytes_digest
from falconry.errors import CloudError


@pytest.fixture
def artifact(tmp_path, request):
    path = tmp_path / "artifact.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model_repository/name", request.node.name)
    return path


def digest(path):
    return bytes_digest(path.read_bytes())


def test_an_artifact_is_found_again_by_its_digest(session, artifact):
    catalog = Catalog(session)
    assert catalog.find(digest(artifact)) is None
    fractions = []
    model = catalog.add(artifact, digest(artifact), "a model", fractions.append)
    assert catalog.find(digest(artifact)) == model
    assert fractions[-1] == 1.0


def test_a_model_whose_upload_was_never_finished_is_not_taken(session, artifact, cloud):
    catalog = Catalog(session)
    cloud.fault(kind="status", operation="create_model_artifact", status=400, times=1)
    with pytest.raises(CloudError, match="uploading the artifact was refused: 400"):
        catalog.add(artifact, digest(artifact), "a model", lambda fraction: None)
    assert catalog.find(digest(artifact)) is None


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 503, "times": 1},
        {"kind": "status", "status": 429, "times": 1},
        {"kind": "cut_request", "afterBytes": 20, "times": 1},
    ],
)
def test_an_upload_that_breaks_once_arrives_whole(session, tmp_path, cloud, fault):
    artifact = tmp_path / "artifact.zip"
    with zipfile.ZipFile(artifact, "w") as archive:
        archive.writestr("model_repository/weights", str(fault) * 10_000)
    cloud.fault(operation="create_model_artifact", **fault)
    catalog = Catalog(session)
    model = catalog.add(artifact, digest(artifact), "a model", lambda fraction: None)
    content = catalog._client.get_model_artifact_content(model).data.content
    assert content == artifact.read_bytes()


def test_the_project_is_made_once(session):
    catalog = Catalog(session)
    assert catalog.project() == catalog.project()
