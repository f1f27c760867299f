"""The Resource Search service, as far as clients look there for a model's deployments."""
