from pathlib import Path

import pytest

from falconry import data_files
from falconry.data_files import project_file
from falconry.engine.recipe import load_recipe
from falconry.errors import MachineError

ROOT = Path(__file__).parents[2]


def test_files_of_the_checkout_are_found_from_any_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert project_file("engine/recipes").samefile(ROOT / "engine" / "recipes")
    assert project_file().samefile(ROOT)


def test_a_file_that_the_checkout_has_lost_is_one_sentence():
    with pytest.raises(
        MachineError, match=r"engine/lost\.toml: is missing.*git checkout"
    ) as failure:
        project_file("engine/lost.toml")
    assert "\n" not in str(failure.value)


def test_without_a_checkout_one_sentence_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(data_files, "CODE_DIRECTORY", tmp_path)
    with pytest.raises(MachineError) as failure:
        load_recipe("cpu")
    assert str(failure.value) == (
        f"{tmp_path}: the project's engine/recipes is missing: falconry is installed without it; "
        "run this from a checkout of the project"
    )
