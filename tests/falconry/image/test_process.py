import os
import subprocess

import pytest

from falconry.errors import ServerError
from falconry.image import process_image as process
from falconry.image.process_image import prepare_process_image


def test_the_image_holds_a_real_tritonserver(tmp_path):
    launcher = prepare_process_image(tmp_path / "image") / "bin" / "tritonserver"
    assert os.access(launcher, os.X_OK)
    shown = subprocess.run([launcher, "--help"], capture_output=True, text=True, check=False)
    assert "--model-repository" in shown.stdout + shown.stderr


def test_preparing_again_changes_nothing(tmp_path):
    launcher = prepare_process_image(tmp_path / "image") / "bin" / "tritonserver"
    before = launcher.stat().st_ino
    prepare_process_image(tmp_path / "image")
    assert launcher.stat().st_ino == before


def test_a_directory_with_spaces_and_quotes_serves_as_well(tmp_path):
    launcher = prepare_process_image(tmp_path / "an 'image'") / "bin" / "tritonserver"
    shown = subprocess.run([launcher, "--help"], capture_output=True, text=True, check=False)
    assert "--model-repository" in shown.stdout + shown.stderr


def test_without_root_a_missing_library_is_one_command_to_run(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "_loads", lambda library: False)
    monkeypatch.setattr(process.sysconfig, "get_config_var", lambda name: str(tmp_path))
    monkeypatch.setattr(process.os, "geteuid", lambda: 1000)
    with pytest.raises(ServerError, match=r"run: sudo apt-get install .*libpython3\.1"):
        prepare_process_image(tmp_path / "image")


def test_a_library_beside_the_interpreter_is_found_by_the_server(tmp_path, monkeypatch):
    version = f"{process.sys.version_info.major}.{process.sys.version_info.minor}"
    (tmp_path / f"libpython{version}.so.1.0").touch()
    monkeypatch.setattr(process, "_loads", lambda library: False)
    monkeypatch.setattr(process.sysconfig, "get_config_var", lambda name: str(tmp_path))
    launcher = prepare_process_image(tmp_path / "image") / "bin" / "tritonserver"
    assert f"LD_LIBRARY_PATH={tmp_path}" in launcher.read_text()


def test_a_missing_wheel_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(process.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ServerError, match="nvidia-pytriton package is not installed"):
        prepare_process_image(tmp_path / "image")
