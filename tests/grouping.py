"""Which tests run together on one worker, what they are marked as, and in which order they run.

Markers, from the fixtures that a test uses: `docker` needs the Docker engine or the registry,
`server` a Triton, the front or a cloud, `e2e` runs make; `unit` is the rest but what is marked
`slow`. What is marked `long` runs with `-m long` only.
Tests of a module share a worker, so its fixtures are made once; all that use the Docker engine
share one, since there is one engine with one image cache. A test's own `xdist_group` comes before
both.
"""

from __future__ import annotations

import os

import pytest

_ENGINE = "docker_engine"
_DOCKER = frozenset({_ENGINE, "docker_registry"})
_SERVERS = frozenset(
    {
        "cloud",
        "new_cloud",
        "registry_cloud",
        "scripted_cloud",
        "shared_cloud",
        "stand_in_server",
        "triton",
    }
)
# They start servers without a fixture of the above.
_SERVER_MODULES = frozenset(
    {
        "tests/docker/test_availability.py",
        "tests/docker/test_front.py",
        "tests/docker/test_front_limits.py",
        "tests/docker/test_openai_serving.py",
        "tests/docker/test_supervisor.py",
        "tests/docker/test_tritonserver.py",
        "tests/falconry/cloud/test_silence.py",
        "tests/falconry/endpoint/test_wheel.py",
        "tests/local_oci/test_cli.py",
        "tests/local_oci/test_fuzz.py",
        "tests/local_oci/test_state.py",
        "tests/local_oci/runtime/test_isolation.py",
        "tests/local_oci/services/test_sessions.py",
        "tests/model_repository/test_families.py",
        "tests/model_repository/test_front_model.py",
        "tests/model_repository/test_slots.py",
        "tests/model_repository/test_stand_in_backend.py",
        "tests/test_soak.py",
    }
)
_END_TO_END = "tests/end_to_end/"
_ORDER = ("unit", "slow", "server", "e2e", "docker")


def needs_docker(item: pytest.Item) -> bool:
    """Whether a test uses the engine or the registry, by any fixture."""
    return not _DOCKER.isdisjoint(getattr(item, "fixturenames", ()))


def pytest_configure(config: pytest.Config) -> None:
    """Declares the markers."""
    for line in (
        "docker: needs a Docker engine or registry",
        "server: runs a Triton, the front or a cloud",
        "e2e: runs make",
        "slow: none of these, and yet it takes long",
        "long: takes half a minute of both cores, and a shorter test looks at the same; left out",
        "unit: none of these, and fast",
    ):
        config.addinivalue_line("markers", line)


def pytest_xdist_auto_num_workers() -> int:
    """One worker more than there are cores: much of the suite waits for servers."""
    return len(os.sched_getaffinity(0)) + 1


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks, groups and orders the tests."""
    ranks: dict[str, int] = {}
    for item in items:
        markers = _markers(item)
        for marker in markers:
            item.add_marker(marker)
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(_own_group(item)))
        rank = max(map(_ORDER.index, markers))
        ranks[_group(item)] = max(rank, ranks.get(_group(item), 0))
    # Alone, the fast ones come first. Workers take the slow groups first, so that none of them is
    # still at one when the others have nothing left.
    items.sort(key=lambda item: ranks[_group(item)], reverse=hasattr(config, "workerinput"))


def _markers(item: pytest.Item) -> list[str]:
    fixtures = frozenset(getattr(item, "fixturenames", ()))
    module = item.nodeid.partition("::")[0]
    found = ["docker"] if needs_docker(item) else []
    if module.startswith(_END_TO_END):
        found.append("e2e")
    elif not fixtures.isdisjoint(_SERVERS) or module in _SERVER_MODULES:
        found.append("server")
    if not found:
        found.append("unit" if item.get_closest_marker("slow") is None else "slow")
    return found


def _own_group(item: pytest.Item) -> str:
    uses_engine = _ENGINE in getattr(item, "fixturenames", ())
    return _ENGINE if uses_engine else item.path.stem  # short: it is seen after each test's name


def _group(item: pytest.Item) -> str:
    mark = item.get_closest_marker("xdist_group")
    assert mark is not None
    return str(mark.args[0])
