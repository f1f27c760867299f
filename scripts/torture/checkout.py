"""A copy of the project to run make in, as a user would, with the set-up that is there already."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from falconry.digests import bytes_digest

ROOT = Path(__file__).resolve().parents[2]
PARTS = [
    "Makefile",
    "tasks.py",
    "pyproject.toml",
    "requirements.lock",
    "scripts/make_venv.sh",
    "scripts/base_image.sh",
    "profiles",
    "engine",
    "docker",
    "model_repository",
    "checkpoints",
    "falconry",
    "local_oci",
]
# Python tells its audit hooks of all that http.client sends, which urllib3 and so the oci SDK and
# requests are built on (Python, "Audit events table"). A request begins with its first line.
_LISTENER = """
import os
import sys


def _hear(event, arguments):
    if event == "http.client.send":
        line, _, rest = bytes(arguments[1][:2000]).partition(b"\\r\\n")
        if rest and line.endswith(b" HTTP/1.1"):
            with open(os.environ["ASKED"], "ab") as asked:
                asked.write(line + b"\\n")


sys.addaudithook(_hear)
"""
NO_DOCKER = "unix:///nowhere/docker.sock"
_NO_CACHES = shutil.ignore_patterns("__pycache__")
_LIMIT_S = 300


@dataclass(frozen=True)
class Result:
    """What a run of make printed, and its exit status."""

    status: int
    output: str

    @property
    def answer(self) -> str:
        """The output without the line break that ends it."""
        return self.output.removesuffix("\n")

    @property
    def complaint(self) -> str:
        """The one line that says what is wrong, without make's own."""
        lines = [line for line in self.output.splitlines() if line.startswith("✘ ")]
        assert "Traceback" not in self.output, self.output
        assert len([line for line in lines if " failed" not in line]) == 1, self.output
        return lines[-1]


class Clone:
    """A project directory of its own, with more environment variables if need be.

    Its deployments are processes on every machine, unless it is given an engine's DOCKER_HOST.
    """

    def __init__(self, directory: Path, **environment: str) -> None:
        self.directory = directory
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("FALCONRY_", "MAKE", "MFLAGS", "PYTEST", "OCIR_"))
        }
        self._environment = {**kept, "DOCKER_HOST": NO_DOCKER, **environment}

    @classmethod
    def make(cls, directory: Path, **environment: str) -> Clone:
        """Copies this checkout to a directory."""
        directory.mkdir()
        for part in PARTS:
            target = directory / part
            target.parent.mkdir(exist_ok=True)
            if (ROOT / part).is_dir():
                shutil.copytree(ROOT / part, target, ignore=_NO_CACHES)
            else:
                shutil.copy2(ROOT / part, target)
        (directory / ".venv").symlink_to(ROOT / ".venv")
        return cls(directory, **environment)

    def start(
        self, *words: str, before: Iterable[str] = (), **environment: str
    ) -> subprocess.Popen[str]:
        """Starts make in a process group of its own.

        Args:
            words: targets and variables.
            before: a command that runs make, such as `prlimit` with its options.
            environment: more variables.
        """
        return subprocess.Popen(
            [*before, "make", *words],
            cwd=self.directory,
            env={**self._environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def start_until(self, text: str, *words: str) -> subprocess.Popen[str]:
        """Starts make, and gives the process as soon as it has printed this text.

        After a while without it the process is killed.
        """
        process = self.start(*words)
        assert process.stdout is not None
        printed = ""
        late = threading.Timer(_LIMIT_S, kill, [process])
        late.start()
        try:
            while text not in printed:
                line = process.stdout.readline()
                assert line, f"{text!r} was not printed:\n{printed}"
                printed += line
        finally:
            late.cancel()
        return process

    def run(self, *words: str, **environment: str) -> Result:
        """Runs make to its end, for a while at most."""
        process = self.start(*words, **environment)
        try:
            output, _ = process.communicate(timeout=_LIMIT_S)
        except subprocess.TimeoutExpired:
            kill(process)
            raise
        return Result(process.returncode, output)

    def ok(self, *words: str) -> Result:
        """Runs make, which must succeed."""
        result = self.run(*words)
        assert result.status == 0, result.output
        return result

    def requests_of(self, *words: str) -> list[str]:
        """Runs make, which must succeed; gives the first line of each HTTP request it sends."""
        listener = self.directory.parent / "listener"
        listener.mkdir(exist_ok=True)
        (listener / "sitecustomize.py").write_text(_LISTENER)
        asked = listener / "asked"
        asked.write_text("")
        result = self.run(*words, PYTHONPATH=str(listener), ASKED=str(asked))
        assert result.status == 0, result.output
        return asked.read_text().splitlines()

    def unread(self, *words: str) -> tuple[int, str]:
        """Runs make with no reader of its output; gives its status and its complaints."""
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing, "wb") as output:
            done = subprocess.run(
                ["make", *words],
                cwd=self.directory,
                env=self._environment,
                stdout=output,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
                timeout=_LIMIT_S,
            )
        return done.returncode, done.stderr

    def fails(self, *words: str) -> str:
        """Runs make, which must fail; gives its one line."""
        result = self.run(*words)
        assert result.status != 0, result.output
        return result.complaint

    def state(self) -> dict[str, str]:
        """Every file that was built, with its content's digest, less what the cloud holds."""
        build = self.directory / "build"
        return {
            path.relative_to(build).as_posix(): bytes_digest(path.read_bytes())
            for path in sorted(build.rglob("*"))
            if path.is_file()
            and path.name not in {"build.json", "digests.json", "lock"}
            and "cloud" not in path.relative_to(build).parts
            and ".locks" not in path.parts
        }

    def processes(self) -> list[str]:
        """The command lines of processes that have to do with this clone."""
        return [" ".join(words) for words in self.commands().values()]

    def commands(self) -> dict[int, list[str]]:
        """The same by process id, each line as its words."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError, UnicodeDecodeError):
                    words = (entry / "cmdline").read_bytes().rstrip(b"\0").decode().split("\0")
                    working = str((entry / "cwd").readlink())
                    if str(self.directory) in " ".join(words) or working.startswith(
                        str(self.directory)
                    ):
                        found[int(entry.name)] = words
        return found


def kill(process: subprocess.Popen[str]) -> str:
    """Ends make and all that it started, as a power cut would; gives what it had printed."""
    os.killpg(process.pid, signal.SIGKILL)
    output, _ = process.communicate()
    return output
