"""The errors that only Object Storage has."""

from __future__ import annotations

from local_oci.http.errors import ServiceError


def namespace_not_found(name: str) -> ServiceError:
    """404: a namespace of another tenancy."""
    return ServiceError(
        404,
        "NamespaceNotFound",
        f"You do not have authorization to perform this request, or the namespace '{name}' could "
        "not be found.",
    )


def bucket_not_found(name: str) -> ServiceError:
    """404: no such bucket."""
    return ServiceError(
        404,
        "BucketNotFound",
        f"Either the bucket named '{name}' does not exist in the namespace or you are not "
        "authorized to access it",
    )


def bucket_exists(name: str) -> ServiceError:
    """409: the name is taken."""
    return ServiceError(
        409,
        "BucketAlreadyExists",
        f"Either the bucket '{name}' already exists or you are not authorized to create it",
    )


def bucket_not_empty(name: str) -> ServiceError:
    """409: there are objects or open uploads."""
    return ServiceError(
        409, "BucketNotEmpty", f"Bucket named '{name}' is not empty. Delete all objects first."
    )


def object_not_found(name: str, bucket: str) -> ServiceError:
    """404: no such object."""
    return ServiceError(
        404, "ObjectNotFound", f"The object '{name}' was not found in the bucket '{bucket}'"
    )


def if_match_failed() -> ServiceError:
    """412: the object is another version, or is not there."""
    return ServiceError(412, "IfMatchFailed", "The If-Match header does not match the object.")


def if_none_match_failed() -> ServiceError:
    """412: the object is there."""
    return ServiceError(
        412, "IfNoneMatchFailed", "The object exists and the If-None-Match header is '*'."
    )


def no_such_upload(upload_id: str) -> ServiceError:
    """404: the upload was committed, aborted, or never begun."""
    return ServiceError(404, "NoSuchUpload", f"The multipart upload '{upload_id}' does not exist")


def invalid_part(reason: str) -> ServiceError:
    """400: the parts to commit are not the parts that were uploaded."""
    return ServiceError(400, "InvalidUploadPart", reason)


def unmatched_crc32c(computed: str, expected: str) -> ServiceError:
    """400: the body is another one than was sent. The code is the MD5's with another name."""
    return ServiceError(
        400,
        "UnmatchedContentCRC32C",
        f"The computed CRC32C of the request body ({computed}) does not match the "
        f"opc-content-crc32c header ({expected})",
    )
