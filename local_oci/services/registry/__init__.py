"""A container registry: Debian's docker-registry behind OCIR's tokens and Artifacts service."""
