"""Lists the packages of the image that it runs in, as JSON on one line.

It runs inside server images, whose Python may be another (3.10 or newer): standard library only.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
from collections.abc import Iterable
from pathlib import Path

# Where the Python packages of our images and of their bases are.
_PYTHON_DIRECTORIES = (
    "opt/falconry/venv/lib/python3*/site-packages",
    "usr/local/lib/python3*/dist-packages",
    "usr/local/lib/python3*/site-packages",
    "usr/lib/python3*/dist-packages",
)
_CLASSIFIER = "License :: "
# A `License` field may have a complete licence text, which is no name.
_LONGEST_NAME = 80
_COMMON = re.compile(r"/usr/share/common-licenses/([A-Za-z0-9][A-Za-z0-9.+-]*[A-Za-z0-9+])")
_SHORT_NAME = re.compile(r"^License:[ \t]*(\S.*?)[ \t]*$", re.MULTILINE)
_WORDS_BETWEEN = re.compile(r",? +(?:and|or|and/or) +|, *")


def main() -> None:
    """Prints the packages of this file system."""
    print(json.dumps(installed(Path("/"))))


def installed(root: Path) -> dict[str, object]:
    """The Debian and Python packages below a root directory, and its distribution."""
    directories = [path for each in _PYTHON_DIRECTORIES for path in sorted(root.glob(each))]
    return {
        "distribution": _distribution(root),
        "debian": debian_packages(root),
        "python": python_packages(str(path) for path in directories),
    }


def debian_packages(root: Path) -> list[dict[str, object]]:
    """The installed packages of dpkg's status file (deb-status, dpkg(1)); none without one."""
    try:
        status = (root / "var/lib/dpkg/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    found: list[dict[str, object]] = []
    for stanza in status.split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in stanza.splitlines() if re.match(r"[A-Za-z-]+: ", line)
        )
        if fields.get("Status", "").endswith(" installed"):
            name = fields["Package"]
            found.append(
                {
                    "name": name,
                    "version": fields.get("Version", ""),
                    "architecture": fields.get("Architecture", ""),
                    "licences": _licences_of_debian(root, name),
                }
            )
    return found


def _licences_of_debian(root: Path, package: str) -> list[str]:
    path = root / "usr/share/doc" / package / "copyright"
    try:
        return licences_of(path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return []


def licences_of(copyright_file: str) -> list[str]:
    """The licences that a Debian copyright file names.

    In Debian's machine-readable format those of its `License` fields; in free text those of
    /usr/share/common-licenses that it refers to.
    """
    if not re.match(r"Format(?:-Specification)?:", copyright_file):
        return sorted(set(_COMMON.findall(copyright_file)))
    names = (
        name for line in _SHORT_NAME.findall(copyright_file) for name in _WORDS_BETWEEN.split(line)
    )
    return sorted({name for name in names if name and len(name) <= _LONGEST_NAME})


def python_packages(directories: Iterable[str]) -> list[dict[str, object]]:
    """The packages of some directories of installed Python packages."""
    found: dict[tuple[str, str], dict[str, object]] = {}
    for each in importlib.metadata.distributions(path=list(directories)):
        name = each.metadata["Name"]
        if name:
            found[name, each.version] = {
                "name": name,
                "version": each.version,
                "licences": licences_of_python(each),
            }
    return [found[key] for key in sorted(found)]


def licences_of_python(package: importlib.metadata.Distribution) -> list[str]:
    """A Python package's licences: its expression, else its classifiers, else its field."""
    fields = package.metadata
    if expression := fields.get_all("License-Expression"):
        return [str(expression[0])]
    classifiers = [
        str(text).rpartition(" :: ")[2]
        for text in fields.get_all("Classifier") or []
        if str(text).startswith(_CLASSIFIER) and str(text).count("::") > 1
    ]
    named = str((fields.get_all("License") or [""])[0]).strip()
    short = [named] if named and "\n" not in named and len(named) <= _LONGEST_NAME else []
    return sorted(set(classifiers)) or short


def _distribution(root: Path) -> dict[str, str]:
    """Name and version of the distribution, as os-release(5) has them."""
    try:
        lines = (root / "etc/os-release").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.split("=", 1) for line in lines if "=" in line)
    values = {name: value.strip("\"'") for name, value in pairs}
    return {"name": values.get("ID", ""), "version": values.get("VERSION_ID", "")}


if __name__ == "__main__":
    main()
