#!/bin/sh
# STAND-IN for NVIDIA's entrypoint: prepares the environment and becomes its arguments.
export STAND_IN_PREPARED=yes
exec "$@"
