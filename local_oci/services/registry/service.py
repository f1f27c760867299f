"""A cloud's container registry: what other services ask of it, and its start and stop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import httpx

from local_oci.home import Home
from local_oci.identity import Identity
from local_oci.runtime.runner import PLAIN_HTTP
from local_oci.services.registry.auth import (
    BEARER_TOKEN,
    Access,
    Action,
    Caller,
    Credentials,
    Scope,
    TokenIssuer,
    load_or_create_key,
)
from local_oci.services.registry.contents import Contents, Repositories, counted, images_of
from local_oci.services.registry.models import Image, Repository, parse_image_name, path_of
from local_oci.services.registry.process import RegistryFiles, RegistryProcess, find_program
from local_oci.services.users.store import AuthTokens


class ContainerRegistry:
    """A registry that answers at `host`."""

    def __init__(
        self,
        host: str,
        identity: Identity,
        repositories: Repositories,
        auth_tokens: AuthTokens,
        contents: Contents,
        issuer: TokenIssuer,
    ) -> None:
        self.host = host
        self.credentials = Credentials(identity, auth_tokens, issuer)
        self._user = identity.user
        self._access = Access(identity, repositories)
        self._repositories = repositories
        self._contents = contents
        self._issuer = issuer

    def token(self, caller: Caller, scopes: Iterable[Scope]) -> str:
        """A token with what the caller may do of what it asks for."""
        granted = self._access.grant(caller, scopes)
        return self._issuer.issue(caller.user, granted, caller.login)

    def login(self) -> dict[str, str]:
        """Credentials that may pull every image, as the Docker SDK's `auth_config`."""
        token = self._issuer.issue(self._user, [], login={Action.PULL})
        return {"username": BEARER_TOKEN, "password": token}

    async def digest_of(self, reference: str) -> str | None:
        """The digest of an image's manifest, read from what the registry holds.

        Args:
            reference: "<host>/<namespace>/<repository>[:<tag>][@<digest>]"; without a tag and a
                digest it means the tag "latest", with both the digest decides, as with Docker.

        Returns:
            The digest; None if this registry has no such image or the reference is another's.
        """
        host, _, path = reference.partition("/")
        name = parse_image_name(path)
        if host != self.host or name is None or self._repositories.named(name.repository) is None:
            return None
        stored = path_of(name.repository)
        if name.digest is not None:
            held = await asyncio.to_thread(self._contents.holds, stored, name.digest)
            return name.digest if held else None
        return await asyncio.to_thread(self._contents.tagged, stored, name.tag or "latest")

    async def counted(self, repositories: Sequence[Repository]) -> list[Repository]:
        """Repositories with what the registry holds of them now."""

        def count() -> list[Repository]:
            return [counted(repository, self._contents) for repository in repositories]

        return await asyncio.to_thread(count)

    async def images(self, repositories: Sequence[Repository]) -> list[Image]:
        """All images of some repositories."""

        def read() -> list[Image]:
            return [
                image
                for repository in repositories
                for image in images_of(repository, self._contents)
            ]

        return await asyncio.to_thread(read)

    async def remove(self, images: Iterable[Image]) -> None:
        """Take images, and with them their tags, out of the registry."""
        async with httpx.AsyncClient(
            base_url=f"http://{self.host}", trust_env=False, verify=PLAIN_HTTP
        ) as client:
            for image in images:
                path = path_of(image.repository_name)
                token = self._issuer.issue(self._user, [Scope(path, {Action.DELETE})])
                response = await client.delete(
                    f"/v2/{path}/manifests/{image.digest}",
                    headers={"authorization": f"Bearer {token}"},
                )
                if response.status_code != httpx.codes.NOT_FOUND:
                    response.raise_for_status()


class RegistryLifecycle:
    """Whether a cloud has a container registry."""

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
        self._changing = asyncio.Lock()

    @property
    def existed(self) -> bool:
        """Whether this home ever had a registry; then deployments may need it."""
        return self._home.registry.exists()

    async def start(self) -> ContainerRegistry:
        """Start the registry, unless it runs.

        Raises:
            RegistryError: it cannot be started; nothing is left running.
        """
        async with self._changing:
            if self.registry is None:
                self.registry = await self._start()
            return self.registry

    async def stop(self) -> None:
        """Stop the registry, if it runs."""
        async with self._changing:
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
