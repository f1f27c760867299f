import pytest

from falconry.cloud.catalog import Catalog
from falconry.errors import CloudError


def silent(step, fraction):
    pass


@pytest.fixture
def view(make_view, request):
    return make_view("repository", request.node.name.encode())


def test_an_artifact_is_found_again_by_its_digest(session, view):
    catalog = Catalog(session)
    assert catalog.find(view.digest) is None
    fractions = []
    model = catalog.add(view, "a model", lambda step, fraction: fractions.append(fraction))
    assert catalog.find(view.digest) == model
    assert fractions[-1] == 1.0


def test_a_model_whose_upload_was_never_finished_is_not_taken(session, view, cloud):
    catalog = Catalog(session)
    cloud.fault(kind="status", operation="create_model_artifact", status=400, times=1)
    with pytest.raises(CloudError, match="uploading the artifact was refused: 400"):
        catalog.add(view, "a model", silent)
    assert catalog.find(view.digest) is None


def test_the_project_is_made_once(session):
    catalog = Catalog(session)
    assert catalog.project() == catalog.project()
