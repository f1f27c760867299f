"""What a release of NVIDIA's backend changes in a repository: the names of two tensors at most.

So what is shown of one release on a real server, in tests/model_repository/test_contract.py, holds
for all of them.
"""

import json

import pytest
from google.protobuf import text_format

from falconry.engine.toolchain import load_toolchains
from falconry.repository.config import CONFIG_FILE, read_config
from tests.stand_in_backend.engine import stand_in_engine
from tests.stand_in_backend.repository import gpu_repository

TOOLCHAINS = load_toolchains()
REFERENCE = TOOLCHAINS.row(None).release
OTHERS = [row.release for row in TOOLCHAINS.rows if row.release != REFERENCE]
# What the reference calls them, by the name that a release has for its seed.
RENAMED = {
    "seed": {},
    "random_seed": {"random_seed": "seed", "min_length": "min_tokens"},
}
# Of the release itself and of no consequence to who serves it: the engine's own papers.
PAPERS = {"tensorrt_llm/1/config.json"}


@pytest.fixture(scope="module")
def repository_of(tmp_path_factory):
    """Makes a release's repository."""

    def make(release):
        directory = tmp_path_factory.mktemp("gpu")
        engine = stand_in_engine(directory / "engine", release)
        return gpu_repository(engine, release, directory / "build")

    return make


def files(repository):
    return {
        path.relative_to(repository).as_posix(): path.read_bytes()
        for path in repository.rglob("*")
        if path.is_file()
    }


def in_the_references_words(config, renamed):
    """A configuration as it would be if its release had the reference's names."""
    text = text_format.MessageToString(config)
    for theirs, ours in renamed.items():
        text = text.replace(f'"{theirs}"', f'"{ours}"')
    return text_format.Parse(text, type(config)())


def told_names(config):
    """Takes from a front model's configuration which names it has to use for the engine's."""
    return config.parameters.pop("engine_names").string_value


@pytest.mark.parametrize("release", OTHERS)
def test_a_releases_repository_is_the_references_but_for_two_names(repository_of, release):
    renamed = RENAMED[TOOLCHAINS.row(release).tensor_names]
    theirs, ours = (repository_of(name) for name in (release, REFERENCE))
    found, expected = files(theirs), files(ours)
    assert set(found) == set(expected)
    for name in set(found) - PAPERS:
        if not name.endswith(CONFIG_FILE):
            assert found[name] == expected[name], name
            continue
        config, wanted = read_config(theirs / name), read_config(ours / name)
        if name.startswith("tensorrt_llm_bls/"):
            assert json.loads(told_names(config)) == {new: old for old, new in renamed.items()}
            assert json.loads(told_names(wanted)) == {}
        assert in_the_references_words(config, renamed) == wanted, name
