"""The model artifact: a reproducible zip, computed and not stored."""
