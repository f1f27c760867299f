"""The images' entrypoint: runs the server as its child, or becomes another command.

    entrypoint.py [tritonserver] [tritonserver's own arguments]
    entrypoint.py COMMAND [arguments]

An engine for several GPUs runs as several ranks under mpirun. The exit status is the server's own.
Triton handles SIGTERM only once its models are loaded (main.cc, after TRITONSERVER_ServerNew), and
the kernel withholds a signal that PID 1 does not handle. So this process is PID 1, and Triton is
its child, which can be stopped at any time.
"""

import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

_SERVER = "/opt/tritonserver/bin/tritonserver"
_WITH_FRONT = Path(__file__).with_name("tritonserver.py")
_ENGINE_MODEL = "tensorrt_llm"
# Sets library paths and, as root, CUDA's forward compatibility; then becomes its arguments.
_NVIDIA_ENTRYPOINT = "/opt/nvidia/nvidia_entrypoint.sh"
_FIRST_RANK = b"OMPI_COMM_WORLD_RANK=0"  # set by mpirun
_STOPPING = (signal.SIGTERM, signal.SIGINT)
# What the kernel reports about its NVIDIA driver, in a container too.
_DRIVER = Path("/proc/driver/nvidia/version")
_MAJOR = re.compile(r"\d+")
_DRIVER_VERSION = re.compile(r"Kernel Module(?: +for \S+)? +(\d[\d.]*)")


def main() -> None:
    """Runs the command that the arguments name."""
    words = sys.argv[1:]
    _prepare_cuda()
    if not words or words[0] == "tritonserver" or words[0].startswith("-"):
        arguments = words[words[:1] == ["tritonserver"] :]
        ranks = world_size(_repositories(arguments))
        command = _prepared(server_command(arguments, ranks))
        sys.exit(run(command, _first_rank if ranks > 1 else None))
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, which would be inherited
    _become(_prepared(words))


def server_command(arguments: Sequence[str], ranks: int) -> list[str]:
    """The server's command line: one process, or mpirun with one a rank.

    The options of mpirun and of the ranks are from NVIDIA/TensorRT-LLM at 0a2e2c1f1268,
    triton_backend/scripts/launch_triton_server.py. Other than there, the first rank has the front,
    root's rights are allowed only to root, no rank is bound, since by default mpirun gives each of
    two ranks a single core, which its tokenizers would have to share, and there may be more ranks
    than cores, which mpirun takes for its slots.

    Args:
        arguments: tritonserver's own.
        ranks: how many processes the engine is built for.
    """
    with_front = [sys.executable, "-E", str(_WITH_FRONT), _SERVER]
    if ranks == 1:
        return [*with_front, *arguments]
    command = ["mpirun", "--bind-to", "none", "--oversubscribe"]
    if os.geteuid() == 0:
        command.append("--allow-run-as-root")
    for rank in range(ranks):
        server = [_SERVER] if rank else with_front
        command += [":"] if rank else []
        command += ["-n", "1", *server, *arguments, *_rank_arguments(rank)]
    return command


def world_size(repositories: Iterable[Path]) -> int:
    """How many processes the engine in the model repositories is built for."""
    for repository in repositories:
        config = _read_object(repository / _ENGINE_MODEL / "1" / "config.json")
        if "pretrained_config" in config:
            return int(config["pretrained_config"].get("mapping", {}).get("world_size", 1))
    return 1


def driver_version(path: Path) -> str | None:
    """The version of the host's NVIDIA driver; None where there is none."""
    try:
        found = _DRIVER_VERSION.search(path.read_text(errors="replace"))
    except OSError:
        return None
    return found[1] if found else None


def cuda_compatibility(
    driver: str | None, environment: Mapping[str, str]
) -> tuple[dict[str, str], str | None]:
    """How the image's CUDA works with the host's driver.

    NVIDIA's images hold the driver libraries of their CUDA, which work with older kernel drivers,
    and only with these: on an H100 with driver 580.159.04, those of 580.95.05 answer cuInit with
    803, "unsupported display driver / cuda driver combination".
    Their entrypoint links them into the linker's directories, which needs root and a root file
    system that can be written to (triton-inference-server/server, build.py of 25.10). An engine
    build does the same: engine/build.py.

    Args:
        driver: the host's version.
        environment: the image's.

    Returns:
        The variables to set, and a remark for the log.
    """
    wanted = environment.get("CUDA_DRIVER_VERSION", "")
    found_major, wanted_major = _MAJOR.match(driver or ""), _MAJOR.match(wanted)
    if not (found_major and wanted_major and int(found_major[0]) < int(wanted_major[0])):
        return {}, None
    libraries = f"{environment.get('_CUDA_COMPAT_PATH', '/usr/local/cuda/compat')}/lib.real"
    older = f"the driver {driver} is older than {wanted}, which the image's CUDA wants"
    if not Path(libraries).is_dir():
        return {}, f"{older}, and the image has no {libraries}"
    path = [libraries, *filter(None, [environment.get("LD_LIBRARY_PATH")])]
    return {"LD_LIBRARY_PATH": ":".join(path)}, f"{older}: {libraries} comes first"


def run(command: list[str], stopped: Callable[[int], int | None] | None = None) -> int:
    """Runs a command until it ends, and forwards SIGTERM and SIGINT to it.

    Args:
        command: its arguments.
        stopped: finds the process to stop, given the command's own; None for the command's own.

    Returns:
        Its exit status; as in a shell, 128 plus the signal's number after a signal, and 127 if the
        command cannot be run.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {*_STOPPING, signal.SIGCHLD})
    try:
        # Its own session: Ctrl-C in a terminal comes once, by way of this process.
        child = os.posix_spawnp(command[0], command, os.environ, setsigmask=(), setsid=True)
    except OSError as error:
        return _not_run(command, error)
    while True:
        arrived = signal.sigwait({*_STOPPING, signal.SIGCHLD})
        if arrived in _STOPPING:
            os.kill((stopped(child) if stopped else None) or child, arrived)
        elif (status := _reap(child)) is not None:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _prepare_cuda() -> None:
    variables, remark = cuda_compatibility(driver_version(_DRIVER), os.environ)
    os.environ.update(variables)
    if remark:
        print(f"entrypoint: {remark}", file=sys.stderr)


def _become(command: list[str]) -> None:
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(_not_run(command, error))


def _not_run(command: Sequence[str], error: OSError) -> int:
    print(f"entrypoint: cannot run {command[0]}: {error.strerror}", file=sys.stderr)
    return 127


def _rank_arguments(rank: int) -> list[str]:
    load = ["--model-control-mode=explicit", f"--load-model={_ENGINE_MODEL}"] if rank else []
    return [
        *load,
        "--disable-auto-complete-config",
        f"--backend-config=python,shm-region-prefix-name=prefix{rank}_",
    ]


def _repositories(arguments: Sequence[str]) -> list[Path]:
    """The values of `--model-repository`, given as one word or as two."""
    names = ("--model-repository", "--model-store")
    split = [argument.partition("=") for argument in arguments]
    following = [*arguments[1:], ""]
    return [
        Path(value if equals else after)
        for (name, equals, value), after in zip(split, following, strict=True)
        if name in names
    ]


def _read_object(path: Path) -> dict[str, Any]:
    """A JSON object; empty if there is none, which Triton reports better."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _prepared(command: list[str]) -> list[str]:
    """A command that goes through NVIDIA's own entrypoint where the image has it."""
    return [_NVIDIA_ENTRYPOINT, *command] if os.access(_NVIDIA_ENTRYPOINT, os.X_OK) else command


def _first_rank(mpirun: int) -> int | None:
    """The process of rank 0 below mpirun; its end ends the others.

    mpirun itself would wait a second, kill the ranks after another one and exit with 1
    (Open MPI 4.1.4); Triton alone takes longer. Ranks above 0 exit alone after the first
    (TensorRT-LLM, model_instance_state.cc: exit(0) once the leader has shut down).
    """
    for listed in Path(f"/proc/{mpirun}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the process has ended meanwhile
            for pid in listed.read_text().split():
                if _FIRST_RANK in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    return int(pid)
    return None


def _reap(child: int) -> int | None:
    """Reaps every ended process, orphans too; gives the child's status."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == child:
            found = status


if __name__ == "__main__":
    main()
