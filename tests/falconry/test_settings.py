from pathlib import Path

import pytest

from falconry.errors import SettingsError
from falconry.settings import load_profile, load_settings

ROOT = Path(__file__).parents[2]


def load(**named):
    return load_settings(ROOT, **named)


def test_the_default_profile_needs_no_account():
    settings = load()
    assert settings.profile == "local"
    assert settings.cloud.emulator is not None
    assert settings.checkpoint == "checkpoints/tiny-falcon"


def test_the_command_line_wins_over_the_profile():
    settings = load(
        recipe="cpu-f32",
        checkpoint="/data/falcon",
        overrides='serving.port=9000 deployment.name="two words" cloud.emulator.port=0',
    )
    assert settings.recipe == "cpu-f32"
    assert settings.checkpoint == "/data/falcon"
    assert settings.serving.port == 9000
    assert settings.deployment.name == "two words"


def test_a_release_that_looks_like_a_number_keeps_its_last_digit():
    assert load(overrides="engine.toolchain=25.10").engine.toolchain == "25.10"


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"profile": "nowhere"}, ["nowhere", "local"]),
        ({"overrides": "serving.route=infer"}, ["serving.route", "is gone", "omit it"]),
        ({"overrides": "serving.prot=1"}, ["SET: serving.prot", "unknown key"]),
        ({"overrides": "serving.port=80"}, ["serving.port", "1024"]),
        ({"overrides": "serving.port.x=80"}, ["port", "not a section"]),
        ({"overrides": "nonsense"}, ["nonsense", "section.key=value"]),
        ({"overrides": "a='"}, ["SET"]),
        (
            {"overrides": "serving.port=x deployment.instances=0"},
            ["serving.port", "deployment.instances"],
        ),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(named, words):
    with pytest.raises(SettingsError) as failure:
        load(**named)
    text = str(failure.value)
    assert all(word in text for word in words), text
    assert "\n" not in text


def test_toml_that_does_not_parse_is_told_with_its_line(tmp_path):
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "broken.toml").write_text("a = 1\nb = = 2\n")
    with pytest.raises(SettingsError, match=r"broken\.toml.*line 2"):
        load_settings(tmp_path, "broken")


def test_a_profiles_own_fault_is_told_with_its_file_also_beside_set(tmp_path):
    (tmp_path / "profiles").mkdir()
    text = (ROOT / "profiles" / "local.toml").read_text()
    (tmp_path / "profiles" / "odd.toml").write_text(f"nonsense = 1\n{text}")
    with pytest.raises(SettingsError, match=r"odd\.toml: nonsense: unknown key"):
        load_settings(tmp_path, "odd", overrides="serving.port=9")


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A working directory with a profile of its own and one that the checkout has too."""
    profiles = tmp_path / "profiles"
    profiles.mkdir()
    text = (ROOT / "profiles" / "local.toml").read_text()
    for name in ("mine", "local"):
        (profiles / f"{name}.toml").write_text(text.replace('"falconry"', f'"{name}-model"'))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_program_names_a_profile_of_the_checkout_or_else_of_its_directory(elsewhere):
    assert load_profile("mine").deployment.name == "mine-model"
    assert load_profile("local").deployment.name == "falconry"


def test_without_a_checkout_profiles_are_those_of_the_directory(elsewhere, monkeypatch):
    monkeypatch.setattr("falconry.data_files.CODE_DIRECTORY", elsewhere / "site-packages")
    monkeypatch.setattr("falconry.settings.CODE_DIRECTORY", elsewhere / "site-packages")
    assert load_profile("local").deployment.name == "local-model"
    with pytest.raises(SettingsError) as failure:
        load_profile("nowhere")
    assert str(failure.value) == (
        f"there is no profile 'nowhere' in {elsewhere}/profiles; "
        "give the path of a TOML file, or one of: local, mine"
    )


@pytest.mark.parametrize("path", ["profiles/local.toml", "./profiles/local.toml", "here.toml"])
def test_a_program_may_give_the_path_of_a_profile(elsewhere, path):
    (elsewhere / "here.toml").write_text((elsewhere / "profiles" / "local.toml").read_text())
    for given in (path, Path(path), (elsewhere / path).absolute()):
        settings = load_profile(given)
        assert settings.deployment.name == "local-model"
        assert settings.profile == Path(path).stem


def test_a_profile_that_is_nowhere_is_told_with_the_places_looked_at(elsewhere):
    with pytest.raises(SettingsError) as failure:
        load_profile("nowhere")
    text = str(failure.value)
    assert f"in {ROOT}/profiles or {elsewhere}/profiles; " in text
    assert text.endswith("one of: local, mine, oci")
    with pytest.raises(
        SettingsError, match=rf"{elsewhere}/nowhere\.toml: there is no such profile"
    ):
        load_profile("nowhere.toml")


def test_a_wrong_value_in_a_given_profile_is_named_with_its_file(elsewhere):
    path = elsewhere / "wrong.toml"
    path.write_text((elsewhere / "profiles/mine.toml").read_text() + "\n[nonsense]\n")
    with pytest.raises(SettingsError, match=r"wrong\.toml: nonsense: unknown key"):
        load_profile(path)
