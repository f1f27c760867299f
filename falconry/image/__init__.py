"""A deployment's server image, or the process image that replaces it."""
