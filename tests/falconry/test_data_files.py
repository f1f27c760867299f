from pathlib import Path

import pytest

from falconry import data_files
from falconry.data_files import Table, load_table, project_file
from falconry.engine.recipe import load_recipe
from falconry.errors import MachineError, SettingsError

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


class Colours(Table):
    names: tuple[str, ...]
    count: int


def test_a_table_holds_the_arrays_of_its_file_as_tuples(tmp_path):
    path = tmp_path / "colours.toml"
    path.write_text('names = ["red", "blue"]\ncount = 2\n')
    assert load_table(path, Colours) == Colours(names=("red", "blue"), count=2)


def test_all_faults_of_a_table_are_named_in_one_sentence_with_its_file(tmp_path):
    path = tmp_path / "colours.toml"
    path.write_text('names = "red"\ncount = "2"\nshade = 1\n')
    with pytest.raises(SettingsError) as failure:
        load_table(path, Colours)
    assert str(failure.value) == (
        f"{path}: names: Input should be a valid tuple, count: Input should be a valid integer, "
        "shade: unknown key; correct these values"
    )
