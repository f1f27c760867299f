"""Manifests of engines that tests make up: any files will do."""

import hashlib

from falconry.engine.manifest import EngineFile, Manifest


def manifest_of(key, files):
    return Manifest(
        key=key,
        builder="test",
        toolchain={},
        ingredients={},
        description="an engine of the tests",
        files={
            name: EngineFile(
                size=len(content), sha256=f"sha256:{hashlib.sha256(content).hexdigest()}"
            )
            for name, content in files.items()
        },
    )
