"""The list of an image's parts and that of their licences."""

import json

import pytest

from falconry.errors import ImageError
from falconry.image.installed import installed, licences_of
from falconry.image.parts import (
    ListedImage,
    PartsFiles,
    installed_here,
    read_installed,
    spdx_name,
    write_lists,
)
from falconry.image.server_images import cpu_packages

KEY = 64 * "k"
BASE = f"debian:bookworm-slim@sha256:{64 * 'b'}"
LABELS = {"io.falconry.tritonserver": "2.51.0"}
IMAGE = ListedImage("triton-cpu", "2.51.0", KEY, LABELS, {"BASE": BASE})

STATUS = """\
Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9+deb12u9
Description: GNU C Library
 Status: a line of the description

Package: removed
Status: deinstall ok config-files
Architecture: amd64
Version: 1.0
"""
COPYRIGHT = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
License: LGPL-2.1+ and Expat

License: GPL-2+
 The text of the licence.
"""
METADATA = """\
Metadata-Version: 2.4
Name: Idna.X
Version: 3.1
License-Expression: BSD-3-Clause
"""


@pytest.fixture
def root(tmp_path):
    """The file system of an image with one Debian and one Python package."""
    packages = "opt/falconry/venv/lib/python3.11/site-packages"
    for name, text in {
        "etc/os-release": 'ID=debian\nVERSION_ID="12"\n',
        "var/lib/dpkg/status": STATUS,
        "usr/share/doc/libc6/copyright": COPYRIGHT,
        f"{packages}/Idna_X-3.1.dist-info/METADATA": METADATA,
    }.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    return tmp_path / "root"


@pytest.fixture
def written(root, tmp_path):
    """The files that are written of it."""
    files = PartsFiles.beside(tmp_path / "image-triton-cpu.json")
    write_lists(IMAGE, read_installed(json.dumps(installed(root)), "an image"), files)
    return files


def test_every_part_is_listed_with_its_version_its_address_and_its_licences(written):
    document = json.loads(written.parts.read_text())
    parts = {each["name"]: each for each in document["components"]}
    assert set(parts) == {"debian:bookworm-slim", "tritonserver", "libc6", "Idna.X"}
    assert parts["debian:bookworm-slim"]["version"] == BASE.partition("@")[2]
    assert parts["tritonserver"]["version"] == "2.51.0"
    libc = parts["libc6"]
    assert libc["purl"] == "pkg:deb/debian/libc6@2.36-9%2Bdeb12u9?arch=amd64&distro=debian-12"
    assert {each["license"]["id"] for each in libc["licenses"]} == {
        *("GPL-2.0-or-later", "LGPL-2.1-or-later", "MIT")
    }
    assert parts["Idna.X"]["purl"].startswith("pkg:pypi/idna")


def test_the_list_keeps_the_schema_of_cyclonedx(written):
    # Here, since the import takes seconds, in every worker.
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(written.parts.read_text()) is None
    assert validator.validate_str('{"bomFormat": "CycloneDX"}') is not None


def test_the_licences_are_listed_with_the_parts_that_state_them(written):
    assert "MIT\n    libc6 2.36-9+deb12u9\n" in written.licences.read_text()
    assert "not stated\n    debian:bookworm-slim sha256:" in written.licences.read_text()


def test_the_same_image_has_the_same_list(written, root):
    before = written.parts.read_bytes()
    write_lists(IMAGE, read_installed(json.dumps(installed(root)), "an image"), written)
    assert written.parts.read_bytes() == before


def test_the_lists_of_another_image_do_not_stay(written):
    assert set(written.digests(KEY)) == {written.parts.name, written.licences.name}
    assert written.digests(64 * "o") == {}
    assert not written.parts.exists()
    assert not written.licences.exists()


def test_what_is_no_list_is_one_error():
    for output in ("", "exec: no such file", '{"debian": 5}', "[]"):
        with pytest.raises(ImageError, match="the parts of the image cannot be listed"):
            read_installed(output, "an image")


def test_licences_in_free_text_are_the_common_ones_it_refers_to():
    text = "On Debian systems see /usr/share/common-licenses/GPL-3.\nAlso GPL-2."
    assert licences_of(text) == ["GPL-3"]


@pytest.mark.parametrize(
    ("name", "spdx"),
    [
        ("GPL-2+", "GPL-2.0-or-later"),
        ("LGPL-2.1", "LGPL-2.1-only"),
        ("GPL-3.0", "GPL-3.0-only"),
        ("Expat", "MIT"),
        ("Apache-2.0", "Apache-2.0"),
        ("a licence of ours", "a licence of ours"),
    ],
)
def test_debians_names_are_spdxs(name, spdx):
    assert spdx_name(name) == spdx


def test_the_packages_of_a_process_image_are_those_of_this_environment():
    found = {each.name.lower() for each in installed_here(cpu_packages()).python}
    assert {"nvidia-pytriton", "openvino", "aiohttp"} <= found
    assert "pytest" not in found
