"""Access to Oracle's cloud or to local_oci through the oci SDK, as the profile chooses."""
