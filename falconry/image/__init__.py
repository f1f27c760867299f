"""What the deployment runs: a server image, or on a machine without Docker its stand-in."""
