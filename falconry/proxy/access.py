"""The token of a proxy: who has it may use the deployment."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path

from falconry.files import remove, translate_disk_errors

TOKEN_FILE, AUTHORIZATION_FILE = "token", "authorization"


@dataclass(frozen=True, slots=True)
class Access:
    """A token that lives as long as its proxy.

    Other users of the machine can neither read its files nor see it in a list of processes: curl
    takes a header from a file, as `--header @<file>`.

    Attributes:
        directory: of the files, for their owner alone.
    """

    directory: Path
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    def admits(self, authorization: str) -> bool:
        """Whether a request with this header may pass."""
        scheme, _, given = authorization.partition(" ")
        is_known = secrets.compare_digest(
            given.strip().encode("utf-8", "replace"), self.token.encode()
        )
        return is_known and scheme.lower() == "bearer"

    @property
    def token_file(self) -> Path:
        """The token alone, as for OPENAI_API_KEY."""
        return self.directory / TOKEN_FILE

    @property
    def authorization_file(self) -> Path:
        """The header, as for curl."""
        return self.directory / AUTHORIZATION_FILE

    def introduction(self, url: str, *, shows_token: bool) -> list[str]:
        """Says how clients use the proxy.

        Args:
            url: the proxy's.
            shows_token: whether only the user reads it, as on a terminal; a log keeps it.
        """
        token = self.token if shows_token else f"<what is in {self.token_file}>"
        return [
            f"page          {url}/#token={token}",
            f"curl          curl {url}/v2/health/ready --header @{self.authorization_file}",
            f'openai        OPENAI_BASE_URL={url}/v1 OPENAI_API_KEY="$(cat {self.token_file})"',
            f"tritonclient  InferenceServerClient({url.removeprefix('http://')!r}), "
            'headers={"Authorization": "Bearer <token>"}',
            "Ctrl-C closes it.",
        ]

    def write(self) -> None:
        """Writes the files, in place of those of a proxy that was killed."""
        with translate_disk_errors(self.directory):
            self.remove()
            self.directory.parent.mkdir(parents=True, exist_ok=True)
            self.directory.mkdir(mode=0o700)
            _write_private(self.token_file, self.token)
            _write_private(self.authorization_file, f"Authorization: Bearer {self.token}")

    def remove(self) -> None:
        """Removes the files."""
        remove(self.directory)


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(text, encoding="ascii")
