"""Access to Oracle's cloud or local_oci through the oci SDK."""
