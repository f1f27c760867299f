"""The gateway in front of deployments: `/predict` and `/predictWithResponseStream`."""
