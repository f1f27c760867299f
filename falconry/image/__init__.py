"""The server image that a deployment runs, or the process image that replaces it."""
