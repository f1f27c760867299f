"""Buckets of Object Storage: made when they are needed first."""

from __future__ import annotations

from typing import Any

import oci
from oci.object_storage.models import CreateBucketDetails

from falconry.cloud.session import cloud_errors_told


def ensure_bucket(client: Any, namespace: str, bucket: str, compartment_id: str) -> None:
    """Makes a bucket unless it is there.

    Args:
        client: an Object Storage client.
        namespace: the tenancy's.
        bucket: its name.
        compartment_id: where it is made.

    Raises:
        CloudError: it may be neither seen nor made.
    """
    with cloud_errors_told(f"looking for the bucket '{bucket}'"):
        try:
            client.get_bucket(namespace, bucket)
            return
        except oci.exceptions.ServiceError as error:
            if error.status != 404:
                raise
    details = CreateBucketDetails(name=bucket, compartment_id=compartment_id)
    with cloud_errors_told(f"making the bucket '{bucket}'"):
        try:
            client.create_bucket(namespace, details)
        except oci.exceptions.ServiceError as error:
            if error.code != "BucketAlreadyExists":  # another runner was as quick
                raise
