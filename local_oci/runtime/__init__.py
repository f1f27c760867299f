"""How a deployment's container is made to run on this machine.

`runner` says what a runner is; `process` is the one there is: a "process image" (a directory with
programs) stands in for a container image, and a process tree for the container. `keeper`,
`namespaces`, `relay` and `syscalls` run in that tree, on the standard library alone.
"""
