"""What a container sees of the machine, with namespaces and without."""

from __future__ import annotations

import ctypes
import os
import shlex
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local_oci.home import Home
from local_oci.runtime.isolation import choose_isolation
from tests.local_oci.support import (
    IMAGE,
    MODEL_FILES,
    LocalCloud,
    Sdk,
    ds,
    processes_of,
    run_cli,
    wait_until,
)

MOUNT_POINT = Path("/opt/ds/model/deployed_model")
WRITE = ds.InferenceHttpEndpoint(endpoint_uri_suffix="/write", http_methods=["POST"])


ANONYMOUS = 65534
PR_SET_DUMPABLE = 4  # linux/prctl.h


def _has_namespaces(directory: Path, user: int) -> bool:
    """Whether a user of this machine can have them, found out in a process of that user."""
    directory.mkdir()
    os.chown(directory, user, -1)
    child = os.fork()
    if child == 0:
        try:
            os.setresuid(user, user, user)
            ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1)  # as after an exec
            home = Home(directory)
            home.prepare()
            os._exit(0 if choose_isolation(home, "auto") == "namespaces" else 1)
        finally:
            os._exit(2)
    return os.waitpid(child, 0)[1] == 0


@pytest.fixture(scope="module")
def apart(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sdk]:
    """A cloud with namespaces; its tests are skipped where the machine refuses them."""
    directory = tmp_path_factory.mktemp("apart")
    if not _has_namespaces(directory / "probe", os.getuid()):
        pytest.skip("this machine refuses namespaces")
    yield from _cloud(directory, image, "namespaces")


@pytest.fixture(scope="module")
def plain(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sdk]:
    """A cloud without namespaces."""
    yield from _cloud(tmp_path_factory.mktemp("plain"), image, "plain")


def _cloud(directory: Path, image: Path, isolation: str) -> Iterator[Sdk]:
    cloud = LocalCloud(directory / "d", f"--image={IMAGE}={image}", f"--isolation={isolation}")
    yield Sdk(cloud.start())
    cloud.stop()


@pytest.mark.parametrize("name", ["a b", "a&b", "ü", "it's", "x" * 120])
def test_sockets_and_links_have_a_short_path_that_no_shell_has_to_quote(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "odd name"))
    run = Home(Path("/home/me") / name).run
    assert shlex.quote(str(run)) == str(run)
    assert len(str(run)) < 80
    assert run != Home(Path("/home/me/other") / name).run
    assert Home(Path("/home/me")).run == Path("/home/me/run")


@pytest.mark.parametrize("isolation", ["apart", "plain"])
def test_a_container_is_called_by_plain_paths_wherever_its_cloud_is(
    isolation: str, image: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(isolation)  # skips what this machine refuses
    kind = {"apart": "namespaces", "plain": "plain"}[isolation]
    odd = tmp_path / "a b&ü"
    odd.mkdir()
    (odd / "image").symlink_to(image)
    command = f"echo $PATH; command -v serve; echo {MOUNT_POINT}; exec serve 8000"
    for sdk in _cloud(odd, odd / "image", kind):
        deployment = sdk.deploy(cmd=["sh", "-c", command]).id
        output = (sdk.cloud.directory / "outputs" / f"{deployment}.log").read_text()
        path, program, model = output.splitlines()[:3]
    for each in (path.partition(":")[0], program, model):
        assert shlex.quote(each) == each


def test_two_deployments_listen_on_the_same_port(apart: Sdk) -> None:
    first, second = apart.deploy().id, apart.deploy().id
    for deployment in (first, second):
        environment = apart.post(deployment).json()["environment"]
        assert environment["MODEL_DEPLOYMENT_OCID"] == deployment
        assert "LOCAL_OCI_SERVER_PORT" not in environment


def test_the_artifact_is_at_its_path_inside_alone(apart: Sdk) -> None:
    was_there = MOUNT_POINT.exists()
    (name,) = MODEL_FILES
    deployment = apart.deploy(cmd=["sh", "-c", f"cat {MOUNT_POINT}/{name} && exec serve 8000"]).id
    assert name in apart.post(deployment).json()["files"]
    assert MOUNT_POINT.exists() is was_there
    output = apart.cloud.directory / "outputs" / f"{deployment}.log"
    assert MODEL_FILES[name].decode().strip() in output.read_text()


def test_the_artifact_is_read_only_and_the_rest_of_the_contract_is_writable(apart: Sdk) -> None:
    deployment = apart.deploy(custom_http_endpoints=[WRITE]).id
    assert apart.post(deployment, "/predict/write").json() == {
        str(MOUNT_POINT): "OSError",  # EROFS: read-only file system, for root as well
        "/tmp": "written",
        "/dev/shm": "written",
    }


def test_shared_memory_is_the_deployments_own_and_as_large_as_asked_for(apart: Sdk) -> None:
    command = "df -k --output=size /dev/shm | tail -1; ls /dev/shm | wc -l; exec serve 8000"
    deployment = apart.deploy(cmd=["sh", "-c", command], variables={"SHM_SIZE": "128m"}).id
    output = (apart.cloud.directory / "outputs" / f"{deployment}.log").read_text().split()
    assert output[:2] == [str(128 * 1024), "0"]


_OF_THE_HOST = (
    *("$CLOUD/api_key.pem", "$CLOUD/config", "$CLOUD/state.sqlite3"),
    *("/etc/shadow", "/etc/ssh", f"{Path.home()}/.ssh", "/home", "/var/lib"),
    *(f"/proc/1/{link}/etc" for link in ("root", "cwd")),
    *("/dev/mem", "/sys/fs", "/proc/kcore"),
)
_LOOK_AROUND = f"""
for path in {" ".join(f'"{path}"' for path in _OF_THE_HOST)}; do
    if ls "$path" > /dev/null 2>&1 && [ -s "$path" ]; then echo "sees $path"; fi
done
for path in / /usr /etc /opt {MOUNT_POINT} /proc/sys/kernel; do
    if touch "$path/x" 2> /dev/null; then echo "writes $path"; fi
done
if mount -t tmpfs none /tmp 2> /dev/null; then echo "mounts"; fi
if kill -9 1 2> /dev/null && sleep 0.1 && kill -0 1; then :; fi
ls /opt
grep -E "^(Cap|NoNewPrivs)" /proc/self/status
exec serve 8000
"""


def test_a_deployment_has_no_rights_and_sees_nothing_of_the_host(apart: Sdk) -> None:
    variables = {"CLOUD": str(apart.cloud.directory)}
    deployment = apart.deploy(cmd=["sh", "-c", _LOOK_AROUND], variables=variables).id
    output = (apart.cloud.directory / "outputs" / f"{deployment}.log").read_text().splitlines()
    sets = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    rights = [f"{name}:\t{0:016x}" for name in sets]
    assert output[:7] == ["ds", *rights, "NoNewPrivs:\t1"]


def test_a_process_image_names_what_it_needs_of_the_host(
    apart: Sdk, image: Path, tmp_path: Path
) -> None:
    (tmp_path / "needed").write_text("seen")
    (tmp_path / "image" / "bin").mkdir(parents=True)
    (tmp_path / "image" / "bin" / "serve").write_bytes((image / "bin" / "serve").read_bytes())
    (tmp_path / "image" / "bin" / "serve").chmod(0o755)
    mounts = (image / "mounts").read_text()
    (tmp_path / "image" / "mounts").write_text(f"{mounts}{tmp_path / 'needed'}\n")
    directory = apart.cloud.directory
    named = f"--image=local/named:1={tmp_path / 'image'}"
    assert run_cli("start", f"--directory={directory}", named).returncode == 0
    look = f"cat {tmp_path}/needed; touch {tmp_path}/needed; ls {tmp_path}; exec serve 8000"
    deployment = apart.deploy(image="local/named:1", cmd=["sh", "-c", look]).id
    output = (directory / "outputs" / f"{deployment}.log").read_text()
    assert "seen" in output
    assert "Read-only file system" in output
    assert "image\nneeded\n" in output


def test_a_file_that_a_process_image_needs_and_that_is_gone_is_told(
    apart: Sdk, image: Path, tmp_path: Path
) -> None:
    (tmp_path / "image" / "bin").mkdir(parents=True)
    (tmp_path / "image" / "mounts").write_text("/none/such\n")
    named = f"--image=local/broken:1={tmp_path / 'image'}"
    assert run_cli("start", f"--directory={apart.cloud.directory}", named).returncode == 0
    _, work_request = apart.begin_deployment(apart.model(), image="local/broken:1")
    assert apart.finished(work_request).status == "FAILED"
    ((code, message),) = apart.errors(work_request)
    assert (code, "/none/such" in message) == ("ContainerStartFailed", True)


def test_without_namespaces_a_deployment_has_no_rights_either(plain: Sdk) -> None:
    look = "grep -E '^(CapEff|NoNewPrivs)' /proc/self/status; exec serve 8000"
    deployment = plain.deploy(cmd=["sh", "-c", look]).id
    output = (plain.cloud.directory / "outputs" / f"{deployment}.log").read_text().splitlines()
    assert output[:2] == [f"CapEff:\t{0:016x}", "NoNewPrivs:\t1"]
    assert (plain.cloud.directory / "isolation").read_text() == "plain"


def test_a_user_without_privileges_has_namespaces_as_well(apart: Sdk, tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("this user is without privileges already")
    for parent in (tmp_path, *tmp_path.parents):
        parent.chmod(parent.stat().st_mode | 0o011)
    assert _has_namespaces(tmp_path / "other", ANONYMOUS)


def test_without_namespaces_the_launcher_is_told_port_and_path(plain: Sdk) -> None:
    variables = {"MODEL_DIRECTORY": str(MOUNT_POINT)}
    first, second = (plain.deploy(variables=variables).id for _ in range(2))
    answers = [plain.post(deployment).json() for deployment in (first, second)]
    ports = {answer["environment"]["LOCAL_OCI_SERVER_PORT"] for answer in answers}
    assert len(ports) == 2
    for answer in answers:
        assert answer["files"] == ["model_repository", "model_repository/echo", *MODEL_FILES]
        directory = Path(answer["environment"]["MODEL_DIRECTORY"])
        assert plain.cloud.directory in directory.parents
        assert not directory.stat().st_mode & 0o222


def test_without_namespaces_a_deleted_deployment_leaves_no_descendant(plain: Sdk) -> None:
    deployment = plain.deploy(
        variables={"LEAVE_CHILD": "1", "MODEL_DIRECTORY": str(MOUNT_POINT)}
    ).id
    directory = plain.cloud.directory / "deployments" / deployment
    assert (
        len(processes_of(directory)) >= 3
    )  # keeper, server, and the child in a session of its own
    plain.delete(deployment)
    assert not processes_of(directory)


def test_without_namespaces_nothing_outlives_a_killed_cloud(
    new_cloud: Callable[..., LocalCloud],
) -> None:
    cloud = new_cloud("--isolation=plain")
    Sdk(cloud).deploy(variables={"LEAVE_CHILD": "1", "MODEL_DIRECTORY": str(MOUNT_POINT)})
    assert len(processes_of(cloud.directory)) >= 4  # with the server of the cloud itself
    cloud.kill()
    wait_until(lambda: not processes_of(cloud.directory), 5)


def test_an_unknown_isolation_is_refused_by_the_command_line(tmp_path: Path) -> None:
    outcome = run_cli("serve", f"--directory={tmp_path}/d", "--isolation=total")
    assert outcome.returncode == 2
    assert "invalid choice: 'total'" in outcome.stderr
