"""The set-up of .venv, where its packages are installed already."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = "[project]\nversion = '1'\n"


class Checkout:
    """A checkout with an environment whose python writes down what it is asked to do."""

    def __init__(self, directory, environment):
        self.directory = directory
        self.calls = environment / "calls"
        (directory / "scripts").mkdir(parents=True)
        shutil.copy2(ROOT / "scripts" / "make_venv.sh", directory / "scripts")
        (directory / "pyproject.toml").write_text(PROJECT)
        (directory / "requirements.lock").write_text("# nothing\n")
        (environment / "bin").mkdir(parents=True)
        python = environment / "bin" / "python"
        python.write_text(f'#!/bin/sh\necho "$PWD: $*" >>{self.calls}\n')
        python.chmod(0o755)
        (environment / ".installed").write_text("# nothing\n")

    def set_up(self):
        """Runs the script; gives what it had python do."""
        self.calls.write_text("")
        subprocess.run(
            ["sh", "scripts/make_venv.sh", sys.executable, "requirements.lock"],
            cwd=self.directory,
            check=True,
        )
        return self.calls.read_text().splitlines()


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path / "checkout", tmp_path / "checkout" / ".venv")


def installs_only(calls, directory):
    (call,) = calls
    assert call.startswith(f"{directory}: -m pip install ")
    assert call.endswith("--no-deps --no-build-isolation --editable .")


def test_the_checkout_is_installed_once(checkout):
    installs_only(checkout.set_up(), checkout.directory)
    assert checkout.set_up() == []


def test_a_new_version_is_installed_into_the_same_environment(checkout):
    checkout.set_up()
    (checkout.directory / "pyproject.toml").write_text(PROJECT.replace("1", "2"))
    installs_only(checkout.set_up(), checkout.directory)


def test_a_checkout_that_moved_is_installed_from_where_it_is(checkout, tmp_path):
    checkout.set_up()
    moved = checkout.directory.rename(tmp_path / "moved")
    checkout.directory, checkout.calls = moved, moved / ".venv" / "calls"
    (moved / ".venv" / "bin" / "python").write_text(
        f'#!/bin/sh\necho "$PWD: $*" >>{checkout.calls}\n'
    )
    installs_only(checkout.set_up(), moved)


def test_a_linked_environment_stays_that_of_its_own_checkout(tmp_path):
    theirs = tmp_path / "theirs"
    copy = Checkout(tmp_path / "copy", theirs)
    (copy.directory / ".venv").symlink_to(theirs)
    assert copy.set_up() == []
    assert not (theirs / ".project").exists()


def test_python_starts_in_every_locale_whatever_the_checkout_is_called(tmp_path):
    checkout = Checkout(tmp_path / "ü & b", tmp_path / "ü & b" / ".venv")
    python = tmp_path / "ü & b" / ".venv" / "bin" / "python"
    python.write_text(
        f'#!/bin/sh\n[ "$1" = -S ] && exec "{sys.executable}" "$@"\n'
        f'echo "$PWD: $*" >>"{checkout.calls}"\n'
    )
    packages = tmp_path / "ü & b" / ".venv" / "lib" / "python3.11" / "site-packages"
    packages.mkdir(parents=True)
    written = packages / "falconry.pth"
    written.write_text(f"{checkout.directory}\nimport os\n", encoding="utf-8")
    installs_only(checkout.set_up(), checkout.directory)
    ours, others = written.read_text(encoding="ascii").splitlines()
    added = f"sys.path.append({str(checkout.directory)!a})"
    assert ours == f'import sys; sys.getfilesystemencoding() == "utf-8" and {added}'
    assert others == "import os"


@pytest.mark.parametrize("name", ["a:b", "a\nb"])
def test_a_path_that_no_environment_can_have_is_refused_at_once(tmp_path, name):
    (tmp_path / name / "scripts").mkdir(parents=True)
    shutil.copy2(ROOT / "scripts" / "make_venv.sh", tmp_path / name / "scripts")
    refused = subprocess.run(
        ["sh", "scripts/make_venv.sh", sys.executable, "requirements.lock"],
        cwd=tmp_path / name,
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 1
    assert refused.stderr.startswith("The path of this checkout has a ':' or a control character")
    assert not (tmp_path / name / ".venv").exists()
