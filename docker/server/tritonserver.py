"""The image's `tritonserver`: the real server, with the front on the port that it was given.

    tritonserver.py REAL_TRITONSERVER [tritonserver's own arguments]

This process becomes Triton, so signals and the exit status are Triton's own; the front is its
child and ends with it. Only `--http-port` and `--http-address` are taken from the arguments.
"""

import argparse
import ctypes
import os
import signal
import socket
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LOOPBACK = "127.0.0.1"
# Tells the model tensorrt_llm_bls where Triton's own HTTP is.
_TRITON_HTTP = "FALCONRY_TRITON_HTTP"


def main() -> None:
    """Starts the front and becomes Triton."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("server")
    parser.add_argument("--http-port", type=int, default=8000)
    parser.add_argument("--http-address", default="0.0.0.0")
    options, others = parser.parse_known_args()
    inner = _free_port()
    parent = os.getpid()
    if os.fork() == 0:
        _end_with(parent)
        _serve(parent, options.http_address, options.http_port, f"http://{_LOOPBACK}:{inner}")
    os.environ[_TRITON_HTTP] = f"{_LOOPBACK}:{inner}"
    os.execv(
        options.server,
        [options.server, *others, f"--http-address={_LOOPBACK}", f"--http-port={inner}"],
    )


def _serve(parent: int, address: str, port: int, upstream: str) -> None:
    """Runs the front in the child; without the front there is no use in Triton either."""
    from front import serve

    try:
        serve(address, port, upstream)
    except OSError as error:
        print(f"cannot listen on {address}:{port}: {error.strerror}", file=sys.stderr)
    finally:
        if os.getppid() == parent:
            os.kill(parent, signal.SIGTERM)
        os._exit(0)


def _end_with(parent: int) -> None:
    """Has the kernel end this process when its parent ends, however that comes about."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_LOOPBACK, 0))
        port: int = probe.getsockname()[1]
    return port


if __name__ == "__main__":
    main()
