"""The examination of a built image by the Docker engine that holds it, before it is pushed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from falconry.docker_engine.connection import engine_errors_told
from falconry.errors import ImageError
from falconry.image.image_checks import configuration_findings
from falconry.image.limits import Limits, load_limits
from falconry.image.preflight.archive import examine_archive
from falconry.image.preflight.container import running_findings
from falconry.image.preflight.findings import Finding, LayerSize, Preflight
from falconry.image.preflight.layers import LayerRecord, examine_layer
from falconry.image.preflight.records import LayerRecords
from falconry.image.preflight.rules import load_rules
from falconry.image.preflight.scan import SHORTEST_SECRET, Scanner
from falconry.image.preflight.sizes import size_findings
from falconry.image.preflight.suspicions import suspicion_findings
from falconry.image.preflight.tar import PIECE, DamagedError

if TYPE_CHECKING:
    from docker.client import DockerClient

Report = Callable[[str, float | None], None]

_SILENCE_S = 30 * 60


def examine(
    client: DockerClient,
    reference: str,
    known: LayerRecords,
    report: Report,
    *,
    labels: Sequence[str] = (),
    known_secrets: Sequence[str] = (),
    registry_sizes: Mapping[str, int] | None = None,
    limits: Limits | None = None,
) -> Preflight:
    """Examines an image that the engine holds.

    Layers that are known are not read, and when all are, nothing is. An image that has passed the
    checks that run it is not run again.

    Args:
        client: of the engine.
        reference: the image's name, tag or id.
        known: what earlier examinations learned; it learns from this one and is saved.
        report: called with what is being done and, where that is known, how much of it, from 0
            to 1.
        labels: the names of the labels that the image must have.
        known_secrets: exact values that must stand nowhere in the image. A new one has all layers
            read again, so these are lasting ones; a token made for this push is in no layer.
        registry_sizes: compressed bytes of layers that the registry has already, by diff_id.
        limits: other than limits.toml.

    Returns:
        All findings, good and bad.

    Raises:
        ImageError: there is no such image, or its layers cannot be read.
        MachineError: the engine does not answer, or the records cannot be written.
    """
    limits, rules = limits or load_limits(), load_rules()
    scanner = Scanner(rules, known_secrets)
    report("reading the image's configuration", None)
    image, history = _inspected(client, reference)
    findings = [*configuration_findings(image, history, limits, labels, rules, scanner)]
    findings += _short_secrets(known_secrets)
    layers = _layers(client, reference, image, known, report, scanner, known_secrets)
    sizes = _sizes(layers, registry_sizes or {})
    findings += size_findings(sizes, limits)
    findings += suspicion_findings([record for _, record in layers], rules)
    findings += _running(client, image["Id"], known, report)
    known.save()
    return Preflight(reference, image["Id"], sizes, tuple(findings))


def _inspected(client: DockerClient, reference: str) -> tuple[Mapping[str, Any], Sequence[str]]:
    from docker.errors import ImageNotFound

    with engine_errors_told():
        try:
            image: Mapping[str, Any] = client.api.inspect_image(reference)
        except ImageNotFound:
            raise ImageError(
                "the Docker engine holds no such image", where=reference, remedy="build it first"
            ) from None
        steps = client.api.history(image["Id"])
    return image, [str(step.get("CreatedBy") or "") for step in reversed(steps)]


def _short_secrets(known_secrets: Sequence[str]) -> Iterator[Finding]:
    short = sum(len(secret.encode()) < SHORTEST_SECRET for secret in known_secrets)
    if short:
        fact = f"{short} with fewer than {SHORTEST_SECRET} characters were not looked for"
        yield Finding("known secrets", fact)


def _layers(
    client: DockerClient,
    reference: str,
    image: Mapping[str, Any],
    known: LayerRecords,
    report: Report,
    scanner: Scanner,
    known_secrets: Sequence[str],
) -> list[tuple[str, LayerRecord]]:
    """The records of all layers, lowest first; those that are missing are read."""
    diff_ids: Sequence[str] = (image.get("RootFS") or {}).get("Layers") or []
    records = {
        diff_id: record
        for diff_id in diff_ids
        if (record := known.layer(diff_id, known_secrets)) is not None
    }
    wanted = set(diff_ids) - records.keys()
    if wanted:
        told = f"examining {len(wanted)} of {len(diff_ids)} layers"
        chunks = _archive(client, image, lambda done: report(told, done))
        with contextlib.closing(chunks), _damage_told(reference):
            examined = examine_archive(
                chunks, diff_ids, wanted, partial(examine_layer, scanner=scanner)
            )
        for diff_id, record in examined.items():
            known.remember(diff_id, record, known_secrets)
        records |= examined
    return [(diff_id, records[diff_id]) for diff_id in diff_ids]


@contextlib.contextmanager
def _damage_told(reference: str) -> Iterator[None]:
    try:
        yield
    except DamagedError as error:
        raise ImageError(
            f"the engine's archive of the image cannot be read: {error.problem}",
            where=reference,
            remedy="build the image again",
        ) from None


def _archive(
    client: DockerClient, image: Mapping[str, Any], report: Callable[[float | None], None]
) -> Generator[bytes, None, None]:
    """What `docker save` would write, as it comes."""
    size, done = int(image.get("Size") or 0), 0
    report(None)
    with engine_errors_told(), _patient(client):
        for chunk in client.api.get_image(image["Id"], chunk_size=PIECE):
            yield chunk
            before, done = done, done + len(chunk)
            if size and before // PIECE != done // PIECE:
                report(min(done / size, 1.0))


@contextlib.contextmanager
def _patient(client: DockerClient) -> Iterator[None]:
    """Lets the engine be silent for long: it may write the whole archive before it sends any."""
    usual, client.api.timeout = client.api.timeout, _SILENCE_S
    try:
        yield
    finally:
        client.api.timeout = usual


def _sizes(
    layers: Sequence[tuple[str, LayerRecord]], in_registry: Mapping[str, int]
) -> tuple[LayerSize, ...]:
    return tuple(
        LayerSize(
            diff_id,
            record.uncompressed,
            in_registry.get(diff_id, record.compressed),
            record.estimated and diff_id not in in_registry,
        )
        for diff_id, record in layers
    )


def _running(
    client: DockerClient, image_id: str, known: LayerRecords, report: Report
) -> Sequence[Finding]:
    if known.ran_well(image_id):
        return [Finding("running", "this image has passed before")]
    report("running the image for a moment", None)
    findings = [*running_findings(client, image_id)]
    if all(finding.ok for finding in findings):
        known.remember_run(image_id)
    return findings
