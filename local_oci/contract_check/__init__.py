"""Runs any image with any artifact as the cloud would, and reports how it breaks the contract.

`command` is the command line, `check` the checks in their order, `trial` one run of the container
and what more runs say after a failed one. The container is run by `runtime`'s Docker runner, so
what holds here holds for deployments.
"""
