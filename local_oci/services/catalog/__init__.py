"""Data Science projects and the model catalog: models, artifacts, provenance."""
