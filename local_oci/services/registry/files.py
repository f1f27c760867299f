"""What lies where below a cloud's `registry` directory, and which port the registry has."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

ADDRESS = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class RegistryFiles:
    """The paths of one registry, all below `directory`."""

    directory: Path

    @property
    def configuration(self) -> Path:
        """docker-registry's configuration, written at every start."""
        return self.directory / "config.yml"

    @property
    def key(self) -> Path:
        """Private key that signs the tokens."""
        return self.directory / "key.pem"

    @property
    def certificate(self) -> Path:
        """Certificate of that key, which docker-registry trusts."""
        return self.directory / "certificate.pem"

    @property
    def storage(self) -> Path:
        """Manifests and blobs, as docker-registry lays them out."""
        return self.directory / "storage"

    @property
    def log(self) -> Path:
        """What docker-registry has to say: errors, no requests."""
        return self.directory / "log"

    @property
    def port(self) -> Path:
        """Holds the port of the last run, so that image references outlive a restart."""
        return self.directory / "port"

    def choose_host(self) -> str:
        """Where to listen: at the port of the last run if it is free, else at any that is."""
        port = self._free_port(int(self.port.read_text()) if self.port.exists() else 0)
        self.port.write_text(str(port))
        return f"{ADDRESS}:{port}"

    def _free_port(self, wanted: int) -> int:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((ADDRESS, wanted))
            except OSError:
                return self._free_port(0)
            port: int = probe.getsockname()[1]
            return port
