"""The clients of clients.toml: an environment for each, and one run against a server."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from falconry.data_files import Table, load_table
from scripts.bench.processes import BenchError, Command, run

_HERE = Path(__file__).parent
_PROGRAMS = _HERE / "programs"
_STAMP = "installed.txt"
_LONGEST_RUN_S = 300
_LONGEST_REASON = 160


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a client.

    Attributes:
        passed: None for a client that could not be installed.
        result: in words, for the table.
    """

    client: str
    versions: str
    does: str
    passed: bool | None
    result: str
    date: str


class Client(Table):
    """One client of the table.

    Attributes:
        packages: of PyPI, or of npm for a program in JavaScript, with their versions.
        program: a file of programs/, which fails where the client does.
        nvidia: a client of NVIDIA's checkout, called with `arguments`.
        command: a program that the packages bring.
        absent: modules that the client imports and does not use here; empty ones take their place.
        does: what is tried, for the table.
        known: why it fails, where that is on purpose.
    """

    name: str
    packages: tuple[str, ...]
    program: str | None = None
    nvidia: str | None = None
    arguments: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    does: str
    known: str = ""

    def run(
        self, build: Path, values: Mapping[str, str], checkout: Path | None, date: str
    ) -> Outcome:
        """Installs the client where it is not yet, and runs it once."""
        passed: bool | None = None
        environment = build / "-".join(each.partition("=")[0] for each in self.packages)[
            :60
        ].replace("/", "_")
        try:
            self._install(environment)
            Path(values["work"]).mkdir(exist_ok=True)
            passed, result = self._outcome(environment, values, checkout)
        except BenchError as error:
            result = f"not installed: {str(error)[-_LONGEST_REASON:]}"
        versions = ", ".join(each.replace("==", " ") for each in self.packages)
        return Outcome(self.name, versions, self.does, passed, result, date)

    def _install(self, environment: Path) -> None:
        stamp = environment / _STAMP
        wanted = "\n".join((*self.packages, *self.absent))
        if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
            return
        print(f"{self.name}: installing, once", flush=True)
        environment.mkdir(parents=True, exist_ok=True)
        if self._is_javascript:
            run(["npm", "install", "--silent", "--no-audit", *self.packages], environment)
        else:
            run([sys.executable, "-m", "venv", "--clear", environment], _HERE)
            pip: Command = [environment / "bin" / "python", "-m", "pip", "install", "--quiet"]
            run([*pip, *self.packages], _HERE)
            for module in self.absent:
                (site,) = environment.glob("lib/python*/site-packages")
                (site / f"{module}.py").write_text("", encoding="utf-8")
        stamp.write_text(wanted, encoding="utf-8")

    @property
    def _is_javascript(self) -> bool:
        return self.program is not None and self.program.endswith(".mjs")

    def _outcome(
        self, environment: Path, values: Mapping[str, str], checkout: Path | None
    ) -> tuple[bool, str]:
        command = self._command(environment, values, checkout)
        try:
            ended = subprocess.run(
                command,
                env=_variables(values),
                cwd=environment if self._is_javascript else _HERE.parents[1],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=_LONGEST_RUN_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False, f"no end within {_LONGEST_RUN_S} s"
        said = ended.stdout.decode("utf-8", errors="replace").strip()
        (environment / "output.txt").write_text(said, encoding="utf-8")
        if ended.returncode == 0:
            return True, "passed"
        why = f" ({self.known})" if self.known else ""
        return False, f"failed: {_reason(said)[:_LONGEST_REASON]}{why}"

    def _command(
        self, environment: Path, values: Mapping[str, str], checkout: Path | None
    ) -> Sequence[str | Path]:
        python = environment / "bin" / "python"
        if self.nvidia and checkout:
            filled = [each.format(**values) for each in self.arguments]
            return [python, checkout / self.nvidia, *filled]
        if self.command:
            filling = {**values, "bin": str(environment / "bin")}
            return [each.format(**filling) for each in self.command]
        program = _PROGRAMS / str(self.program)
        if not self._is_javascript:
            return [python, program]
        copy = environment / program.name  # Node finds packages beside the program
        copy.write_bytes(program.read_bytes())
        return ["node", copy]


class _File(Table):
    client: tuple[Client, ...]


def load_clients() -> tuple[Client, ...]:
    """All clients, in the table's order."""
    return load_table(_HERE / "clients.toml", _File).client


def _reason(said: str) -> str:
    """The line of a program's output that says why it failed: the last one of an error."""
    lines = said.splitlines() or ["no output"]
    errors = [line for line in lines if "Error" in line or "Exception" in line]
    return (errors or lines)[-1].strip()


def checkout_of(text: str, target: Path) -> Path:
    """The files of `DIRECTORY[@REVISION]`, which may be a git directory without a work tree.

    Raises:
        BenchError: there is no such directory or revision.
    """
    directory, _, revision = text.partition("@")
    if not revision and (Path(directory) / "tools").is_dir():
        return Path(directory).absolute()
    target.mkdir()
    archive = target / "source.tar"
    git = ["git", "-C", directory, "archive", f"--output={archive}", revision or "HEAD"]
    run(git, Path(__file__).parent)
    with tarfile.open(archive) as tar:
        tar.extractall(target, filter="data")
    return target


def _variables(values: Mapping[str, str]) -> dict[str, str]:
    """A client's environment: where the server is, and nothing from a hub."""
    return {
        **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
        "URL": values["url"],
        "GRPC": values["grpc"],
        "MODEL": values["model"],
        "HF_HUB_OFFLINE": "1",
        "OPENAI_API_KEY": "none",
        "DO_NOT_TRACK": "1",
    }
