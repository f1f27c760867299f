import pytest

from falconry.cloud.session import Session
from falconry.deployment.catalog import Catalog
from falconry.errors import CloudError
from falconry.settings import load_settings
from tests.falconry.cloud.conftest import ROOT


def test_an_emulator_that_does_not_run_is_one_sentence(tmp_path):
    settings = load_settings(ROOT, overrides=f"cloud.emulator.directory={tmp_path}")
    with pytest.raises(CloudError, match="not running; run: make deploy"):
        Session(settings.cloud)


@pytest.mark.parametrize("content", [None, "", "[DEFAULT]\nuser=x\n"])
def test_a_bad_configuration_file_is_one_sentence(cloud, tmp_path, content):
    file = tmp_path / "config"
    if content is not None:
        file.write_text(content)
    settings = load_settings(
        ROOT,
        overrides=f"cloud.config_file={file} cloud.emulator.directory={cloud.directory}",
    )
    with pytest.raises(CloudError) as failure:
        Session(settings.cloud)
    assert str(file) in str(failure.value)
    assert "\n" not in str(failure.value)


def test_a_wrong_key_is_told_as_such(cloud, settings, tmp_path):
    text = (cloud.directory / "config").read_text()
    other = tmp_path / "config"
    fingerprint = next(line for line in text.splitlines() if line.startswith("fingerprint"))
    other.write_text(text.replace(fingerprint, "fingerprint=" + ":".join(["00"] * 16)))
    wrong = settings.cloud.model_copy(update={"config_file": other})
    with pytest.raises(CloudError, match=r"401.*check the key"):
        Catalog(Session(wrong)).project()
