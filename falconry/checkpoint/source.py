"""Sources of checkpoints: directories, and the Hugging Face hub's commits.

Checkpoints of the hub are kept in the hub's own cache. Importing huggingface_hub takes 0.27 s, so
it is imported neither for a directory nor for a checkpoint that was fetched before: a note in the
cache records which files were verified.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from falconry.checkpoint.config import model_config_of
from falconry.checkpoint.files import (
    CONFIG,
    GENERATION_CONFIG,
    GGUF,
    NO_GGUF,
    TOKENIZER,
    TOKENIZER_SETTINGS,
    WEIGHTS,
    WEIGHTS_INDEX,
    checkpoint_files,
    find_file,
    read_json,
)
from falconry.checkpoint.hub_names import HubCheckpoint, parse_hub, refuse_other_hub_names
from falconry.digests import DigestCache, value_digest
from falconry.documents import DocumentError, parse_json, read_document
from falconry.errors import CheckpointError, MachineError
from falconry.files import atomic_write_text, path_exists, translate_disk_errors, user_path
from falconry.library_errors import setting_error
from falconry.pipeline import Report

# What falconry.checkpoint.files reads beside the weights.
_BESIDE_WEIGHTS = (CONFIG, GENERATION_CONFIG, TOKENIZER, *TOKENIZER_SETTINGS)
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")

# huggingface_hub resumes most broken downloads, but not after a connection was reset.
_ATTEMPTS = 3
_CHUNK = 1 << 20


# --- the hub ----------------------------------------------------------------------------------


def fetched(hub: HubCheckpoint) -> Path | None:
    """Finds the local snapshot if it is complete, without the network."""
    cached = _CacheEntry.of(hub)
    note = cached.read_note()
    if note is not None:
        complete = note["verified"] and all(
            (cached.snapshot / name).is_file() for name in note["files"]
        )
        return cached.snapshot if complete else None
    if not cached.snapshot.is_dir():
        return None
    return _fetched_by_others(hub)


def fetch(hub: HubCheckpoint, report: Report) -> Path:
    """Returns the local snapshot, downloaded into the hub's cache if needed.

    Only the environment's HF_TOKEN is sent as a token; HF_ENDPOINT and HF_HOME apply. Finished
    files stay if the run is killed; an unfinished one is downloaded again.

    Raises:
        CheckpointError: the hub refuses it, does not have it, or has no safetensors of it; it is
            a model that is not built; or a file does not have the hub's digest.
        MachineError: the hub cannot be reached, or the disk is full.
    """
    if path := fetched(hub):
        return path
    cached = _CacheEntry.of(hub)
    with _translate_hub_errors(hub), translate_disk_errors(cached.cache):
        report("asking the hub", None)
        files = _wanted_files(hub, _list_files(hub))
        cached.check_space(files)
        cached.write_note({"verified": False, "files": []})
        if CONFIG in files:
            _check_configuration(hub)
        _download(hub, files, cached, report)
        _verify(hub, files, cached, report)
        cached.write_note({"verified": True, "files": sorted(files)})
    return cached.snapshot


def remote_files(hub: HubCheckpoint) -> Mapping[str, RemoteFile]:
    """Lists the files of a checkpoint that are read, by name; raises as `fetch`."""
    with _translate_hub_errors(hub):
        return _wanted_files(hub, _list_files(hub))


def file_url(hub: HubCheckpoint, name: str) -> str:
    """Where the hub has a file of a checkpoint."""
    from huggingface_hub import hf_hub_url

    return hf_hub_url(hub.repository, name, revision=hub.revision, endpoint=_endpoint())


@contextlib.contextmanager
def read_remote(hub: HubCheckpoint, name: str) -> Iterator[Iterator[bytes]]:
    """Gives a file's content, of which only what is read is fetched; raises as `fetch`."""
    import httpx
    from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]

    token = _token()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with (
        _translate_hub_errors(hub),
        httpx.stream("GET", file_url(hub, name), headers=headers, follow_redirects=True) as answer,
    ):
        hf_raise_for_status(answer)
        yield answer.iter_bytes(_CHUNK)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file on the hub: size and digest in git or LFS."""

    size: int
    git_sha1: str
    lfs_sha256: str | None

    def is_in(self, path: Path, report: Callable[[int], None]) -> bool:
        """Reads a local file and says whether it has this content."""
        digest = hashlib.sha256() if self.lfs_sha256 else _git_blob_digest(path.stat().st_size)
        with path.open("rb") as stream:
            while data := stream.read(_CHUNK):
                digest.update(data)
                report(len(data))
        return digest.hexdigest() == (self.lfs_sha256 or self.git_sha1)


@dataclass(frozen=True, slots=True)
class _CacheEntry:
    """A checkpoint's paths in the hub's cache (huggingface_hub 1.33, `file_download.py`)."""

    cache: Path
    storage: Path
    snapshot: Path
    note: Path

    @classmethod
    def of(cls, hub: HubCheckpoint) -> _CacheEntry:
        from huggingface_hub import constants

        cache = Path(constants.HF_HUB_CACHE).expanduser()
        storage = cache / f"models--{hub.repository.replace('/', '--')}"
        return cls(
            cache=cache,
            storage=storage,
            snapshot=storage / "snapshots" / hub.revision,
            note=storage / f".falconry-{hub.revision}.json",
        )

    def read_note(self) -> dict[str, Any] | None:
        """Reads the note of an earlier `fetch`, if it is valid."""
        with contextlib.suppress(DocumentError):
            note = parse_json(read_document(self.note))
            files = note.get("files") if isinstance(note, dict) else None
            if isinstance(files, list) and all(isinstance(name, str) for name in files):
                return {"verified": note.get("verified") is True, "files": files}
        return None

    def write_note(self, note: Mapping[str, Any]) -> None:
        self.storage.mkdir(parents=True, exist_ok=True)
        atomic_write_text(self.note, json.dumps(note))

    def check_space(self, files: Mapping[str, RemoteFile]) -> None:
        self.cache.mkdir(parents=True, exist_ok=True)
        absent = sum(
            file.size for name, file in files.items() if not (self.snapshot / name).is_file()
        )
        free = shutil.disk_usage(self.cache).free
        if absent > free:
            raise MachineError(
                f"has {free / 1e9:.1f} GB free, and the checkpoint needs {absent / 1e9:.1f} GB",
                where=self.cache,
                remedy="free some disk space, or set HF_HOME to a larger disk",
            )

    def forget(self, name: str) -> None:
        """Removes a file and what it links to, if that is the cache's own."""
        path = self.snapshot / name
        if path.resolve().is_relative_to(self.storage.resolve()):
            path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)


def _fetched_by_others(hub: HubCheckpoint) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        path = snapshot_download(
            hub.repository,
            revision=hub.revision,
            local_files_only=True,
            allow_patterns=list(_BESIDE_WEIGHTS),
        )
        checkpoint_files(Path(path))
    except (LocalEntryNotFoundError, CheckpointError):
        return None
    return Path(path)


def _list_files(hub: HubCheckpoint) -> dict[str, RemoteFile]:
    """Lists the files at the repository's top, by name."""
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    api = HfApi(endpoint=_endpoint(), token=_token())
    return {
        entry.path: RemoteFile(
            size=entry.size,
            git_sha1=entry.blob_id,
            lfs_sha256=entry.lfs.sha256 if entry.lfs else None,
        )
        for entry in api.list_repo_tree(hub.repository, revision=hub.revision)
        if isinstance(entry, RepoFile)
    }


def _wanted_files(hub: HubCheckpoint, present: Mapping[str, RemoteFile]) -> dict[str, RemoteFile]:
    """Selects the files that falconry.checkpoint reads, with the same preferences."""
    if WEIGHTS in present:
        weights = [WEIGHTS]
    elif WEIGHTS_INDEX in present:
        weights = [WEIGHTS_INDEX, *(name for name in present if _SHARD.fullmatch(name))]
    elif any(name.endswith(GGUF) for name in present):
        raise CheckpointError("has only GGUF files", where=hub.text, remedy=NO_GGUF)
    else:
        raise CheckpointError(
            "has no safetensors at this commit, and pickled weights are not loaded",
            where=hub.text,
            remedy="choose a commit that has them; the repository's pull requests may offer one",
        )
    beside = [name for name in _BESIDE_WEIGHTS if name in present]
    return {name: present[name] for name in (*beside, *weights)}


def _check_configuration(hub: HubCheckpoint) -> None:
    """Refuses a model that is not built before its gigabytes are fetched."""
    from huggingface_hub import hf_hub_download

    path = Path(
        hf_hub_download(
            hub.repository, CONFIG, revision=hub.revision, token=_token(), endpoint=_endpoint()
        )
    )
    model_config_of(read_json(path), path)


def _download(
    hub: HubCheckpoint, files: Mapping[str, RemoteFile], cached: _CacheEntry, report: Report
) -> None:
    import httpx
    from huggingface_hub import snapshot_download

    for attempt in range(1, _ATTEMPTS + 1):
        try:
            snapshot_download(
                hub.repository,
                revision=hub.revision,
                allow_patterns=list(files),
                token=_token(),
                endpoint=_endpoint(),
                tqdm_class=_bars(files, cached, report),
            )
            # Files with the same content arrive once, so the bytes may be fewer than the total.
            report("fetching the checkpoint", 1.0)
            return
        except httpx.TransportError:
            if attempt == _ATTEMPTS:
                raise
            report("the connection broke, resuming", None)


def _verify(
    hub: HubCheckpoint, files: Mapping[str, RemoteFile], cached: _CacheEntry, report: Report
) -> None:
    total, done = sum(file.size for file in files.values()), 0

    def read(count: int) -> None:
        nonlocal done
        done += count
        report("verifying the checkpoint", done / max(total, 1))

    for name, file in files.items():
        path = find_file(cached.snapshot, name)
        if path is None or not file.is_in(path, read):
            cached.forget(name)
            raise CheckpointError(
                f"{name} arrived with another digest than the hub's, so it was removed",
                where=hub.text,
                remedy="run again",
            )


def _bars(files: Mapping[str, RemoteFile], cached: _CacheEntry, report: Report) -> type:
    """A progress bar class for huggingface_hub that draws nothing and reports bytes."""
    from tqdm.std import tqdm  # type: ignore[import-untyped]

    total = sum(file.size for file in files.values())
    done = sum(file.size for name, file in files.items() if (cached.snapshot / name).is_file())
    lock = threading.Lock()  # files arrive in several threads

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            # Of three bars this one counts bytes written; the others count bytes sent, and files.
            self._counts_bytes = str(options.get("desc", "")).startswith("Reconstructing")
            super().__init__(*arguments, **{**options, "disable": True})

        def update(self, n: float | None = 1) -> None:
            nonlocal done
            if self._counts_bytes:
                with lock:
                    done += int(n or 0)
                    report("fetching the checkpoint", min(done / max(total, 1), 1.0))

    return Bar


def _git_blob_digest(size: int) -> Any:
    """Starts git's SHA-1 of a file, whose header has the size."""
    return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)


def _token() -> str | bool:
    """Returns the environment's token, or False: huggingface_hub then sends no stored one."""
    return os.environ.get("HF_TOKEN", "").strip() or False


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


@contextlib.contextmanager
def _translate_hub_errors(hub: HubCheckpoint) -> Iterator[None]:
    """Translates errors of huggingface_hub into one line, which never holds a header."""
    import httpx
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        yield
    except HfHubHTTPError as error:
        raise _refusal(hub, error) from None
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, httpx.HTTPError) as error:
        if isinstance(error.__cause__, HfHubHTTPError):
            raise _refusal(hub, error.__cause__) from None
        raise setting_error(error) or MachineError(
            "the hub cannot be reached, or the connection kept breaking",
            where=hub.text,
            remedy="check the network, HF_ENDPOINT and HF_HUB_OFFLINE, and run again",
        ) from None


def _refusal(hub: HubCheckpoint, error: Any) -> CheckpointError | MachineError:
    from huggingface_hub.errors import GatedRepoError, RevisionNotFoundError

    status = error.response.status_code
    sent = "HF_TOKEN's user" if _token() else "a reader without a token (HF_TOKEN is not set)"
    if isinstance(error, RevisionNotFoundError):
        return CheckpointError("has no such commit", where=hub.text, remedy="look the commit up")
    if isinstance(error, GatedRepoError) or status == 403:
        return CheckpointError(
            f"is gated, and closed to {sent} ({status})",
            where=hub.text,
            remedy=f"accept its terms at https://huggingface.co/{hub.repository} and set HF_TOKEN",
        )
    if status in (401, 404):
        return CheckpointError(
            f"is not on the hub, or hidden from {sent} ({status})",
            where=hub.text,
            remedy="check the name, and HF_TOKEN for a private repository",
        )
    return MachineError(f"the hub answered {status}", where=hub.text, remedy="run again later")


# --- sources ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CheckpointSource:
    """A checkpoint in a directory or on the hub, never both."""

    hub: HubCheckpoint | None
    path: Path | None

    @classmethod
    def parse(cls, text: str) -> CheckpointSource:
        """Reads `hub:<repository>@<commit>` or a directory's path.

        Raises:
            CheckpointError: it names the hub in another form, or without a commit.
        """
        hub = parse_hub(text)
        path = None if hub else user_path(text)
        if path and not path_exists(path):
            refuse_other_hub_names(text)
        return cls(hub, path)

    @property
    def name(self) -> str:
        """A short name for people."""
        return self.hub.repository if self.hub else str(self.path and self.path.name)

    def digest(self, digests: DigestCache) -> str:
        """Identifies the content, for the hub without fetching it.

        Raises:
            CheckpointError: the directory is no checkpoint.
        """
        if self.hub:
            return self.hub.digest
        files = checkpoint_files(self._directory())
        try:
            return value_digest({path.name: digests.file(path) for path in files})
        except OSError as error:
            raise CheckpointError(
                f"cannot be read ({error.strerror})", where=error.filename
            ) from error

    def at_hand(self) -> Path | None:
        """Returns the directory if nothing has to be fetched."""
        return fetched(self.hub) if self.hub else self.path

    def fetch(self, report: Report) -> Path:
        """Returns the directory, fetched if needed; raises as the function `fetch`."""
        return fetch(self.hub, report) if self.hub else self._directory()

    def _directory(self) -> Path:
        if self.path is None:
            raise ValueError("a checkpoint is either the hub's or a directory")
        return self.path
