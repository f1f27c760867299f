"""Turns a cloud's container registry on, and off when the cloud ends."""

from __future__ import annotations

import asyncio

from local_oci.home import Home
from local_oci.identity import Identity
from local_oci.services.registry.auth import TokenIssuer, load_or_create_key
from local_oci.services.registry.contents import Contents
from local_oci.services.registry.files import RegistryFiles
from local_oci.services.registry.process import RegistryProcess, find_program
from local_oci.services.registry.service import ContainerRegistry
from local_oci.services.registry.store import Repositories
from local_oci.services.users.store import AuthTokens


class RegistrySwitch:
    """Whether a cloud has a container registry.

    Args:
        home: the cloud's directory.
        endpoint: its base URL.
        identity: the one user.
        repositories: the tenancy's repositories.
        auth_tokens: the user's passwords.
    """

    def __init__(
        self,
        home: Home,
        endpoint: str,
        identity: Identity,
        repositories: Repositories,
        auth_tokens: AuthTokens,
    ) -> None:
        self.registry: ContainerRegistry | None = None
        self._home = home
        self._endpoint = endpoint
        self._identity = identity
        self._repositories = repositories
        self._auth_tokens = auth_tokens
        self._process: RegistryProcess | None = None
        self._turning_on = asyncio.Lock()

    @property
    def was_on(self) -> bool:
        """Whether this home ever had a registry; then deployments may need it."""
        return self._home.registry.exists()

    async def turn_on(self) -> ContainerRegistry:
        """Start the registry, unless it runs.

        Raises:
            RegistryError: it cannot be started; nothing is left running.
        """
        async with self._turning_on:
            if self.registry is None:
                self.registry = await self._start()
            return self.registry

    async def turn_off(self) -> None:
        """Stop the registry, if it runs."""
        async with self._turning_on:
            self.registry = None
            if self._process is not None:
                await self._process.stop()

    async def _start(self) -> ContainerRegistry:
        program = find_program()  # first: a home without the program never had a registry
        files = RegistryFiles(self._home.registry)
        files.directory.mkdir(mode=0o700, exist_ok=True)
        signing = await asyncio.to_thread(load_or_create_key, files.key, files.certificate)
        host = files.choose_host()
        process = RegistryProcess(self._home, program, host, self._endpoint)
        await process.start()
        self._process = process
        return ContainerRegistry(
            host,
            self._identity,
            self._repositories,
            self._auth_tokens,
            Contents(files.storage),
            TokenIssuer(signing, host),
        )
