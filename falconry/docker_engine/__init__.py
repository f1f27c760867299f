"""The only door to a Docker engine: its API by the Docker SDK.

The SDK is imported by the functions that need it, since importing it takes time.
"""
