"""How a deployment's container is made to run on this machine.

`runner` says what a runner is. `process` runs "process images": a directory with programs stands in
for a container image, and a process tree for the container; `keeper`, `namespaces` and `relay` run
in that tree, on the standard library alone. `runners` runs the images of a registry in the Docker
engine, and chooses a runner by an image's reference.
"""
