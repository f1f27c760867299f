"""What earlier preflights learned, in one JSON file: layers by diff_id, images by their id.

A layer is known only for the rules by which it was examined and the secrets that were looked for.
Of these there is a slow, salted hash (scrypt), so that the file gives none of them away.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from falconry.digests import bytes_digest, value_digest
from falconry.files import write_text_whole
from falconry.image.preflight.layers import LayerRecord, Suspicion
from falconry.image.preflight.rules import RULES

# Goes up with each change of the code by which the same rules would find something else.
_SCANNER_VERSION = 1
_SCRYPT = {"n": 1 << 12, "r": 8, "p": 1, "dklen": 16}
_MOST_RECORDS = 1000


@dataclass(frozen=True, slots=True)
class _Known:
    """A layer's record, with the hashes of the secrets that were looked for."""

    record: LayerRecord
    searched: tuple[str, ...]


class LayerRecords:
    """The records; a damaged or outdated file is as good as none.

    Args:
        path: of the file, which `save` writes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        stored = _load(path)
        self._salt = str(stored.get("salt") or secrets.token_hex(16))
        self._layers = _layers(stored.get("layers"))
        self._images: dict[str, None] = dict.fromkeys(map(str, stored.get("images") or ()))
        self._hashes: dict[str, str] = {}
        self._changed = False

    def layer(self, diff_id: str, searched: Sequence[str]) -> LayerRecord | None:
        """What is known of a layer in which all these secrets were looked for."""
        known = self._layers.get(diff_id)
        if known is None or not {self._hash(secret) for secret in searched} <= set(known.searched):
            return None
        return known.record

    def remember(self, diff_id: str, record: LayerRecord, searched: Sequence[str]) -> None:
        """Takes in the record of a layer in which these secrets were looked for."""
        self._layers.pop(diff_id, None)
        hashes = sorted(self._hash(secret) for secret in searched)
        self._layers[diff_id] = _Known(record, tuple(hashes))
        self._changed = True

    def ran_well(self, image_id: str) -> bool:
        """Whether the image has passed the checks that run it."""
        return image_id in self._images

    def remember_run(self, image_id: str) -> None:
        """Takes in that an image has passed them."""
        self._images[image_id] = None
        self._changed = True

    def save(self) -> None:
        """Writes what was learned; a lost race with another process costs an examination.

        Raises:
            MachineError: the file cannot be written.
        """
        if not self._changed:
            return
        newest = list(self._layers.items())[-_MOST_RECORDS:]
        stored = {
            "version": _version(),
            "salt": self._salt,
            "layers": {diff_id: asdict(known) for diff_id, known in newest},
            "images": list(self._images)[-_MOST_RECORDS:],
        }
        write_text_whole(self._path, json.dumps(stored))
        self._changed = False

    def _hash(self, secret: str) -> str:
        if secret not in self._hashes:
            data, salt = secret.encode(), self._salt.encode()
            self._hashes[secret] = hashlib.scrypt(data, salt=salt, **_SCRYPT).hex()
        return self._hashes[secret]


def _version() -> str:
    return value_digest([_SCANNER_VERSION, bytes_digest(RULES.read_bytes())])


def _load(path: Path) -> Mapping[str, Any]:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored.get("version") == _version():
            return dict(stored)
    return {}


def _layers(stored: Any) -> dict[str, _Known]:
    with contextlib.suppress(TypeError, KeyError, AttributeError):
        return {diff_id: _known(**fields) for diff_id, fields in (stored or {}).items()}
    return {}


def _known(record: Mapping[str, Any], searched: Sequence[str]) -> _Known:
    suspicions = tuple(Suspicion(**fields) for fields in record["suspicions"])
    whiteouts = tuple(record["whiteouts"])
    return _Known(
        LayerRecord(**{**record, "suspicions": suspicions, "whiteouts": whiteouts}), tuple(searched)
    )
