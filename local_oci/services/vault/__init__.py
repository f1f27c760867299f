"""Secrets of an OCI Vault, as jobs and functions read them."""
