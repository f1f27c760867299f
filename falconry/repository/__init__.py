"""The Triton model repository: assembled from `model_repository/` and an engine, then verified."""
