"""The metadata of a model: its shape and its documented limits. Pure."""

from __future__ import annotations

import json
from typing import Annotated, TypeAlias

from pydantic import AfterValidator

from local_oci.limits import (
    METADATA_BYTES,
    METADATA_CATEGORIES,
    METADATA_DESCRIPTION_CHARACTERS,
    METADATA_VALUE_CHARACTERS,
)
from local_oci.storage.records import WireModel


class Metadata(WireModel):
    """One item of a model's metadata."""

    key: str | None = None
    value: str | None = None
    description: str | None = None
    category: str | None = None
    keywords: tuple[str, ...] | None = None
    has_artifact: bool | None = None


def _check_list(items: tuple[Metadata, ...]) -> tuple[Metadata, ...]:
    """Refuse keys that are absent or not unique [inferred], and too much in all."""
    keys = [item.key for item in items]
    if not all(keys) or len(set(keys)) < len(keys):
        raise ValueError("every item needs a key of its own")
    text = json.dumps([item.model_dump(by_alias=True, exclude_none=True) for item in items])
    if len(text.encode()) > METADATA_BYTES:
        raise ValueError(f"{len(text.encode())} bytes in all, at most {METADATA_BYTES}")
    return items


def _check_custom(items: tuple[Metadata, ...]) -> tuple[Metadata, ...]:
    for item in items:
        if len(item.value or "") > METADATA_VALUE_CHARACTERS:
            raise ValueError(
                f"'{item.key}': its value has more than {METADATA_VALUE_CHARACTERS} characters"
            )
        if len(item.description or "") > METADATA_DESCRIPTION_CHARACTERS:
            raise ValueError(
                f"'{item.key}': its description has more than "
                f"{METADATA_DESCRIPTION_CHARACTERS} characters"
            )
        if item.category is not None and item.category.lower() not in METADATA_CATEGORIES:
            raise ValueError(f"'{item.key}': '{item.category}' is no category")
    return items


DefinedMetadata: TypeAlias = Annotated[tuple[Metadata, ...], AfterValidator(_check_list)]
CustomMetadata: TypeAlias = Annotated[DefinedMetadata, AfterValidator(_check_custom)]
