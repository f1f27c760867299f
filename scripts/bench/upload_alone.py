"""Packs and uploads one repository, so that a process with nothing else in it can be measured.

python -m scripts.bench.upload_alone CLOUD_DIRECTORY REPOSITORY
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from falconry.artifact.contents import describe
from falconry.artifact.view import ArtifactView
from falconry.cloud.catalog import Catalog
from falconry.cloud.session import Session
from falconry.digests import DigestCache
from scripts.bench.upload import benchmark_entry, cloud_settings, silent


def main() -> None:
    """Does what the command line says."""
    cloud, repository = map(Path, sys.argv[1:])
    root = Path(__file__).resolve().parents[2]
    with tempfile.TemporaryDirectory() as directory:
        digests = DigestCache(Path(directory) / "digests.json")
        contents = describe(repository, digests, {}, silent)
        view = ArtifactView.open(repository, contents, digests)
        session = Session(cloud_settings(root, cloud).cloud)
        Catalog(session).ensure(benchmark_entry(view), view, silent)


if __name__ == "__main__":
    main()
