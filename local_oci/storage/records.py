"""Records, stored as they travel: one pydantic model for both. And identifiers in Oracle's forms.

A field named in `INTERNAL` is stored and never leaves this program.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from local_oci.home import damaged
from local_oci.limits import MAX_FREEFORM_TAGS, TAG_KEY_CHARACTERS, TAG_VALUE_CHARACTERS
from local_oci.storage.database import Database

_UNIQUE_BYTES = 35  # 56 characters of base32: "aaaa" and these make the usual 60
# Sorts after every character of a key.
_LAST = "\U0010ffff"


def new_ocid(resource_type: str) -> str:
    """A fresh OCID: `ocid1.<type>.<realm>.<region>.<unique>`, with no region, as for a user.

    The form is that of docs.oracle.com/iaas/Content/General/Concepts/identifiers.htm.
    """
    return _ocid(resource_type, secrets.token_bytes(_UNIQUE_BYTES))


def derived_ocid(resource_type: str, origin: str) -> str:
    """The one OCID of what is not stored but found anew each time, by what makes it unique."""
    return _ocid(resource_type, hashlib.sha512(origin.encode()).digest()[:_UNIQUE_BYTES])


def _ocid(resource_type: str, unique: bytes) -> str:
    return f"ocid1.{resource_type}.oc1..aaaa{base64.b32encode(unique).decode().lower()}"


def new_etag() -> str:
    """A fresh version tag of a resource."""
    return str(uuid.uuid4())


def new_request_id() -> str:
    """32 upper-case hexadecimal digits, as the SDK makes them."""
    return uuid.uuid4().hex.upper()


def now() -> datetime:
    """The present, in UTC."""
    return datetime.now(UTC)


def _fits_a_header(text: str) -> str:
    """Refuse what HTTP cannot carry in a header, with a ValueError."""
    if not text.isprintable() or not text.isascii():
        raise ValueError("a header holds printable ASCII characters only")
    return text


# What a client says in a body and gets back as a header.
HeaderValue = Annotated[str, AfterValidator(_fits_a_header)]


def _in_32_bits(number: int) -> int:
    """Refuse what is no count of anything, with a ValueError."""
    if not -(2**31) <= number < 2**31:
        raise ValueError("a number has more than 32 bits")
    return number


# A number of a body. A bound of `Field` would be lost to those of the field itself.
Int32 = Annotated[int, AfterValidator(_in_32_bits)]


class WireModel(BaseModel):
    """A frozen shape of Oracle's APIs: snake_case here, camelCase in JSON."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="ignore",
        allow_inf_nan=False,
        defer_build=True,  # saves a tenth of a second at every start
    )


class Record(WireModel):
    """Something stored under a key, with a version tag."""

    INTERNAL: ClassVar[frozenset[str]] = frozenset({"etag"})

    etag: str = Field(default_factory=new_etag)

    def wire(self) -> dict[str, Any]:
        """The JSON object that clients see; absent fields are left out, as Oracle does."""
        return self.model_dump(
            mode="json", by_alias=True, exclude=set(self.INTERNAL), exclude_none=True
        )


class Resource(Record):
    """A record with an OCID, in a compartment."""

    id: str
    compartment_id: str


def _within_limits(tags: dict[str, str]) -> dict[str, str]:
    """Refuse more or longer tags than a resource can have."""
    if len(tags) > MAX_FREEFORM_TAGS:
        raise ValueError(f"{len(tags)} tags, a resource can have {MAX_FREEFORM_TAGS}")
    for key, value in tags.items():
        if not 0 < len(key) <= TAG_KEY_CHARACTERS or len(value) > TAG_VALUE_CHARACTERS:
            raise ValueError(
                f"the tag '{key}' has more than {TAG_KEY_CHARACTERS} characters in its key or "
                f"{TAG_VALUE_CHARACTERS} in its value, or no key"
            )
    return tags


FreeformTags = Annotated[dict[str, str], AfterValidator(_within_limits)]


class Tagged(WireModel):
    """Something with tags."""

    freeform_tags: FreeformTags = Field(default_factory=dict)
    defined_tags: dict[str, dict[str, Any]] = Field(default_factory=dict)


class NamedResource(Resource, Tagged):
    """A resource that a user made and named."""

    display_name: str
    description: str | None = None
    created_by: str
    time_created: datetime = Field(default_factory=now)


RecordT = TypeVar("RecordT", bound=Record)


class Collection(Generic[RecordT]):
    """All records of one kind, by key, in key order."""

    def __init__(
        self,
        database: Database,
        kind: str,
        model: type[RecordT],
        key: Callable[[RecordT], str],
    ) -> None:
        self._database = database
        self._kind = kind
        self._model = model
        self._key = key

    def get(self, key: str) -> RecordT | None:
        """The record with this key, if there is one."""
        row = self._database.execute(
            "SELECT document FROM records WHERE kind = ? AND key = ?", self._kind, key
        ).fetchone()
        return None if row is None else self._read(row[0])

    def count(self) -> int:
        """How many records there are."""
        row = self._database.execute("SELECT COUNT(*) FROM records WHERE kind = ?", self._kind)
        return int(row.fetchone()[0])

    def put(self, record: RecordT) -> RecordT:
        """Store a record over its predecessor."""
        self._database.execute(
            "INSERT INTO records (kind, key, document) VALUES (?, ?, ?) "
            "ON CONFLICT (kind, key) DO UPDATE SET document = excluded.document",
            self._kind,
            self._key(record),
            record.model_dump_json(by_alias=True),
        )
        return record

    def change(self, record: RecordT, **fields: Any) -> RecordT:
        """Store a copy of a record with other values, as a new version of it."""
        return self.put(record.model_copy(update={"etag": new_etag(), **fields}))

    def delete(self, key: str) -> None:
        """Forget a record; an absent record is no error."""
        self._database.execute("DELETE FROM records WHERE kind = ? AND key = ?", self._kind, key)

    def scan(self, start: str = "", end: str = _LAST) -> Iterator[RecordT]:
        """Records with `start` <= key < `end`, in the order of their keys' code points."""
        rows = self._database.execute(
            "SELECT document FROM records WHERE kind = ? AND key >= ? AND key < ? ORDER BY key",
            self._kind,
            start,
            end,
        )
        for (document,) in rows:
            yield self._read(document)

    def _read(self, document: str) -> RecordT:
        try:
            return self._model.model_validate_json(document)
        except ValueError as error:
            problem = f"it holds a {self._kind} that is none"
            raise damaged(self._database.path, problem) from error

    def below(self, prefix: str) -> Iterator[RecordT]:
        """Records whose key starts with `prefix`."""
        return self.scan(prefix, prefix + _LAST)
