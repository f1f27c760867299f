import subprocess

import pytest

from falconry.checkpoint.files import licence_of
from falconry.deployment.failures import explain_failure
from falconry.deployment.provenance import Provenance, licence, provenance_of
from falconry.settings import load_settings
from tests.falconry.cloud.conftest import ROOT


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"README.md": "---\nlanguage: en\nlicense: apache-2.0\n---\n# A model"}, "apache-2.0"),
        # As models with a licence of their own write it (huggingface.co/docs/hub, "Licenses").
        (
            {"README.md": "---\nlicense: other\nlicense_name: falcon-llm-license\n---\n"},
            "falcon-llm-license",
        ),
        ({"README.md": "---\nlicense: other\n---\n"}, "other"),
        (
            {"README.md": "license: mit\n", "LICENSE": "\n# Falcon 180B License\nText"},
            "Falcon 180B License",
        ),
        ({"README.md": "# No word"}, None),
        ({}, None),
    ],
)
def test_a_checkpoint_says_its_licence(tmp_path, files, expected):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert licence_of(tmp_path) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({}, "apache-2.0"),  # checkpoints/tiny-falcon/README.md
        ({"profile": "oci"}, "apache-2.0"),  # the recipe's falcon-7b, which is not at hand
        ({"checkpoint": "hub:nobody/nothing@" + "a" * 40}, None),
    ],
)
def test_the_profiles_checkpoint_has_a_licence_where_it_is_known(words, expected, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert licence(load_settings(ROOT, **{"profile": "local", **words})) == expected


def test_git_tells_where_a_model_comes_from_and_no_secret(tmp_path):
    def git(*words):
        subprocess.run(
            ["git", "-c", "user.name=x", "-c", "user.email=x@y", *words],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )

    git("init", "--initial-branch=main")
    git("commit", "--allow-empty", "--message=first")
    git("remote", "add", "origin", "https://jane:s3cret@example.com/team/falconry.git?token=s3cret")
    found = provenance_of(tmp_path)
    assert found.branch == "main"
    assert len(found.commit) == 40
    assert found.repository_url == "https://example.com/team/falconry.git"


def test_outside_of_git_nothing_is_told(tmp_path):
    assert provenance_of(tmp_path) == Provenance()


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        # Oracle's words, as users quote them.
        (
            "There is currently no capacity for the specified shape. Choose a different shape",
            "shape",
        ),
        ("Workflow timed out. Maximum runtime was: 10 minutes.", "10 minutes"),
        ("x/y:1 could not be pulled within 20 minutes", "16 GB"),
        # local_oci's: a code that speaks of a pull says nothing of its duration.
        ("ImagePullFailed: no Docker engine answers at unix:///x.sock", "make down"),
        ("ImagePullFailed: the image x/y:1 does not exist", "make image"),
        ("404 NotAuthorizedOrNotFound: Authorization failed", "policies"),
        # TensorRT's, CUDA's, Triton's and the kernel's.
        ("deserializeCudaEngine: Engine deserialization failed.", "toolchain of the image"),
        ("CUDA out of memory. Tried to allocate 2 GiB", "larger shape"),
        ("write error: No space left on device", "STORAGE_SIZE_IN_GB"),
        ("failed to stat file model_repository: no such file", "model_repository/"),
        ("nobody ever said this", "make logs"),
    ],
)
def test_a_known_failure_says_what_to_do(said, advice):
    assert advice in explain_failure(["BootstrapFailure: Errors occurred", said])
