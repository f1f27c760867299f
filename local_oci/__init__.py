"""A local Oracle Cloud: enough of OCI to take a model from artifact to an answering deployment.

A program of its own (`python -m local_oci --help`), spoken to only over HTTP by the `oci` SDK.
Each service is a subpackage with the same rooms: `routes` (URLs and HTTP), `models` (what travels
and what is stored), `rules` (documented limits), `workflows` (what a work request does).
"""
