"""The Docker engine, through the Docker SDK.

Every function raises `MachineError` when the engine does not answer. The SDK is imported by the
functions that need it, since importing it takes time.
"""
