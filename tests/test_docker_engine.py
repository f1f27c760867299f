"""The tests' own Docker engine: it harms no other one, and its absence is no excuse in CI."""

import contextlib
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docker_bridge import own_bridge
from tests.docker_engine import engine_events, started_engine

ROOT = Path(__file__).parents[1]
NETWORK = Path("/sys/class/net")
SKIPPING = """
import pytest

@pytest.fixture
def docker_engine():
    pytest.skip("no engine here")

@pytest.fixture
def by_another(docker_engine):
    pass

def test_that_needs_docker(by_another):
    pass

def test_that_needs_something_else():
    pytest.skip("no GPU here")

@pytest.mark.xfail
def test_that_fails_as_expected(request):
    assert False
"""


@pytest.fixture
def outcome(tmp_path):
    """Runs the tests above with the plugin; gives pytest's status and what it says."""

    def run(**environment):
        (tmp_path / "test_skipping.py").write_text(SKIPPING)
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-ra",
                "-p",
                "tests.docker_engine",
                "-p",
                "no:cacheprovider",
            ],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT), **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    return run


def test_a_test_that_docker_is_missing_for_is_skipped(outcome):
    status, said = outcome()
    assert status == 0, said
    assert "2 skipped, 1 xfailed" in said


def test_where_docker_is_required_that_is_a_failure_with_its_reason(outcome):
    status, said = outcome(FALCONRY_REQUIRE_DOCKER="1")
    assert status == 1, said
    assert "1 skipped, 1 xfailed, 1 error" in said
    assert "test_that_needs_docker was skipped: no engine here" in said


def docker0():
    """The number that the kernel gave to the bridge of a usual engine; None where there is none."""
    place = NETWORK / "docker0" / "ifindex"
    return place.read_text() if place.exists() else None


def test_engines_of_the_tests_leave_the_bridge_of_a_usual_one_alone(docker_engine):
    before = docker0()
    with started_engine() as one, started_engine() as other:
        assert one.answers()
        assert other.answers()
        assert one.host != other.host
        assert docker0() == before
    assert docker0() == before


def rules():
    """All rules of iptables."""
    return subprocess.run(["iptables-save"], capture_output=True, text=True, check=True).stdout


def test_a_bridge_and_its_rules_are_gone_in_the_end(docker_engine):
    with contextlib.ExitStack() as stack:
        names = [stack.enter_context(own_bridge()) for _ in range(2)]
        if "none" in names:
            pytest.skip("this machine has no bridges")
        subnets = {address_of(name) for name in names}
        assert len(subnets) == 2
        assert all(name in rules() for name in names)
    assert not any((NETWORK / name).exists() or name in rules() for name in names)


def address_of(name):
    """A bridge's address with its prefix length."""
    command = ["ip", "-4", "-oneline", "address", "show", "dev", name]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[3]


def test_what_happens_in_an_engine_is_seen(docker_engine):
    name = f"falconry-test/{secrets.token_hex(4)}"
    with contextlib.closing(docker_engine.client()) as client:
        with engine_events(client, name) as events:
            client.api.import_image_from_data(b"\0" * 1024, repository=name, tag="1")
            client.images.remove(f"{name}:1")
        assert [event["Action"] for event in events] == ["tag"]
        with engine_events(client, name) as events:
            pass
        assert events == []
