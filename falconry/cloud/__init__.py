"""The cloud, through the oci SDK alone: real when the profile says so, local_oci otherwise."""
