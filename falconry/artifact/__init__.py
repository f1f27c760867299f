"""The model artifact: the repository as a reproducible zip that is computed, not stored."""
