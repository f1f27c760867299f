"""How a deployment's container is made to run on this machine.

`runner` says what a runner is, and `combined` chooses one by the image's reference. `process` runs
"process images": a directory with programs stands in for a container image, and a process tree for
the container; `keeper`, `namespaces`, `relay` and `syscalls` run in that tree, on the standard
library alone. `docker_runner` runs the images of a registry in the Docker engine.
"""
