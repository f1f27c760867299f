"""Uploads a repository's artifact and says how much memory that took: a program to kill.

python -m tests.falconry.cloud.upload_process CLOUD_DIRECTORY REPOSITORY MODEL PART_BYTES SETTINGS
"""

import re
import sys
import tempfile
from pathlib import Path

from falconry.artifact.contents import describe
from falconry.artifact.view import ArtifactView
from falconry.cloud.session import Session
from falconry.deployment import multipart
from falconry.deployment.upload import upload_artifact
from falconry.digests import DigestCache
from falconry.settings import UploadSettings, load_settings

ROOT = Path(__file__).parents[3]


def silent(step, fraction):
    pass


def peak_resident_kib():
    """What this program held at most; `ru_maxrss` would count what its parent held at the fork."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])


def main():
    cloud, repository, model, part_bytes, upload = sys.argv[1:]
    multipart._PART_BYTES = int(part_bytes)
    settings = load_settings(
        ROOT, overrides=f"cloud.config_file={cloud}/config cloud.emulator.directory={cloud}"
    )
    with tempfile.TemporaryDirectory() as directory:
        digests = DigestCache(Path(directory) / "digests.json")
        contents = describe(Path(repository), digests, silent)
        view = ArtifactView.open(Path(repository), contents, digests)
    chosen = UploadSettings.model_validate_json(upload)
    print("uploading", flush=True)
    upload_artifact(Session(settings.cloud), model, view, chosen, silent)
    print("peak KiB", peak_resident_kib(), flush=True)


if __name__ == "__main__":
    main()
