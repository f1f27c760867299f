"""Falconry: from a Hugging Face Falcon checkpoint to an answering endpoint."""
