from pathlib import Path

import pytest

from falconry.errors import SettingsError
from falconry.settings import load_settings

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
        ({"overrides": "serving.route=grpc"}, ["serving.route", "generate", "infer"]),
        ({"overrides": "serving.prot=1"}, ["serving.prot", "unknown key"]),
        ({"overrides": "serving.port=80"}, ["serving.port", "1024"]),
        ({"overrides": "serving.port.x=80"}, ["port", "not a section"]),
        ({"overrides": "nonsense"}, ["nonsense", "section.key=value"]),
        ({"overrides": "a='"}, ["SET"]),
        (
            {"overrides": "serving.route=x deployment.instances=0"},
            ["serving.route", "deployment.instances"],
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
