#!/bin/sh
# Makes .venv from a lock file: make_venv.sh PYTHON LOCK. Its stamp, .venv/.installed, is a copy of
# the lock and is written last: an interrupted set-up starts again, and a lock that git only touched
# is not mistaken for a changed one. The checkout itself is installed as editable, again
# when pyproject.toml changes or the checkout has moved.
set -eu
python=$1
lock=$2

case $PWD in
*:* | *[[:cntrl:]]*)
    echo "The path of this checkout has a ':' or a control character, which PATH and Python's" \
         "environments cannot hold; move it" >&2
    exit 1
    ;;
esac

if ! "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))'; then
    echo "Falconry needs Python 3.11 or 3.12, and '$python' is not one;" \
         "install python3.11 or run: make PYTHON=/path/to/python3.11" >&2
    exit 1
fi

# It belongs to another checkout; clearing it would break that one.
if [ -L .venv ] && ! cmp -s "$lock" .venv/.installed; then
    echo ".venv is a link to a set-up for another $lock; remove the link to have one made here" >&2
    exit 1
fi

# Debian ships the venv module without the pip that it installs.
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    package=python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "Installing $package, which makes virtual environments" >&2
        apt-get update --quiet >/dev/null
        apt-get install --yes --no-install-recommends "$package" >/dev/null
    else
        echo "Python's venv module is incomplete; run: sudo apt-get install $package" >&2
        exit 1
    fi
fi

# What the editable install depends on.
project() {
    pwd -P
    cat pyproject.toml
}

# A linked .venv belongs to another checkout, and so does what is editable there.
install_project() {
    if [ -L .venv ] || project | cmp -s - .venv/.project; then
        return
    fi
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
        --no-build-isolation --editable .
    if pwd -P | LC_ALL=C grep -q '[^ -~]'; then
        # Python reads these lines in the locale's encoding, and would not start where that is
        # ASCII, as in Triton's Python backend, which cannot use the path either.
        PYTHONUTF8=1 .venv/bin/python -S -c '
import pathlib
for path in pathlib.Path(".venv").glob("lib/python3*/site-packages/*.pth"):
    lines = path.read_text().splitlines()
    usable = "import sys; sys.getfilesystemencoding() == \"utf-8\" and sys.path.append"
    pairs = [(line, f"{usable}({line!a})") for line in lines]
    path.write_text("".join(f"{a if a.isascii() else b}\n" for a, b in pairs))
'
    fi
    project >.venv/.project
}

# Two makes on a fresh clone: the second waits and finds the work done.
exec 9>.venv.lock
command -v flock >/dev/null && flock 9
if cmp -s "$lock" .venv/.installed; then
    install_project
    touch .venv/.installed
    exit 0
fi

echo "Setting up .venv from $lock: a minute or two, once" >&2
"$python" -m venv --clear .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps \
    --require-hashes --requirement "$lock"
install_project
# pip would compile all of it, in 50 s: oci has 20,000 modules, of which 300 are used. This compiles
# what Falconry imports; Python does so too, but not where PYTHONDONTWRITEBYTECODE is set.
PYTHONDONTWRITEBYTECODE= .venv/bin/python -c '
import importlib, pkgutil
import docker, invoke.program, openvino_genai, transformers, tritonclient.http
for package in "falconry", "local_oci":
    path = importlib.import_module(package).__path__
    for module in pkgutil.walk_packages(path, f"{package}."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
' >/dev/null 2>&1 || echo "Not all of .venv could be compiled: the first commands are slower" >&2
cp "$lock" .venv/.installed
