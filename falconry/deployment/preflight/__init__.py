"""Checks that find, before anything is sent, why a deployment would fail."""
