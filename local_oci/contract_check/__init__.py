"""Runs any image with any artifact as the cloud would, and tells how it breaks the contract.

`command` is the command line, `check` the order of things, `trial` one run of the container and
`diagnosis` what more runs say about one that failed. The container is run by `runtime`'s Docker
runner, so what holds here holds for deployments.
"""
