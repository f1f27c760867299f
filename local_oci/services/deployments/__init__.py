"""Model deployments of the Data Science service, and the shapes that they may have."""
