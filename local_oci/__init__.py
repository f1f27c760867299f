"""A local Oracle Cloud: enough of OCI to take a model from artifact to an answering deployment.

A program of its own (`python -m local_oci --help`), spoken to only over HTTP by the `oci` SDK.
Below `services` each service has the same rooms: `routes` (URLs and HTTP), `models` (what travels
and what is stored), `store`, and `commands` or `workflows` (what is done).
"""
