"""The image's `tritonserver`: the real server behind the front.

    tritonserver.py REAL_TRITONSERVER [tritonserver's own arguments]

Triton and the front are children of this process, which ends when one of them does; signals go to
Triton. Only `--http-port` and `--http-address` are taken from the arguments. Without an option for
metrics, Triton serves its own on a free loopback port, and the front publishes them. Triton's gRPC
listens on loopback unless `--grpc-address` says otherwise.
"""

import argparse
import contextlib
import os
import secrets
import socket
import sys
import traceback
from pathlib import Path

from supervisor import Supervisor

_LOOPBACK = "127.0.0.1"
# Configurations are complete. To complete them, Triton would start each Python model's process a
# first time: 1.8 s of CPU, a third of a small server's start.
_COMPLETE = "--disable-auto-complete-config"
_REGION_NAMES = "shm-region-prefix-name"
_SHARED_MEMORY = Path("/dev/shm")
# The address of Triton's own HTTP port, for the model tensorrt_llm_bls.
_TRITON_HTTP = "FALCONRY_TRITON_HTTP"
# What docker/server/access.py closes, on Triton's own ports as well: loopback may have other users,
# and gRPC may be open. Triton can only ask for a header there, whose value no client gets to know.
_RESTRICTED = "shared-memory,model-repository,trace,logging"


def main() -> None:
    """Runs Triton and the front until both have ended."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("server")
    parser.add_argument("--http-port", type=int, default=8000)
    parser.add_argument("--http-address", default="0.0.0.0")
    parser.add_argument("--grpc-address", default=_LOOPBACK)
    parser.add_argument("--metrics-port", type=int)
    parser.add_argument("--metrics-address")
    options, others = parser.parse_known_args()
    inner, metrics = _free_ports(2)
    if options.metrics_port is not None:
        metrics = options.metrics_port
    if options.metrics_address is not None:  # by default that of HTTP
        others.append(f"--metrics-address={options.metrics_address}")
    closed = f"{_RESTRICTED}:closed={secrets.token_hex(16)}"
    others += [
        f"--grpc-address={options.grpc_address}",
        f"--http-restricted-api={closed}",
        f"--grpc-restricted-protocol={closed}",
    ]
    os.environ[_TRITON_HTTP] = f"{_LOOPBACK}:{inner}"
    command = [
        options.server,
        *others,
        *([] if _COMPLETE in others else [_COMPLETE]),
        f"--http-address={_LOOPBACK}",
        f"--http-port={inner}",
        f"--metrics-port={metrics}",
    ]
    own = (options.http_address, options.http_port)
    upstream = f"http://{_LOOPBACK}:{inner}"
    metrics_url = f"http://{_reachable(options.metrics_address)}:{metrics}/metrics"
    # A killed Triton leaves the memory that it shares with its Python backends.
    regions = f"falconry_{os.getpid()}_{secrets.token_hex(4)}_"
    if not any(_REGION_NAMES in word for word in others):
        command.append(f"--backend-config=python,{_REGION_NAMES}={regions}")
    status = Supervisor(command, lambda beats: _serve(own, upstream, metrics_url, beats)).run()
    for region in _SHARED_MEMORY.glob(f"{regions}*"):
        region.unlink(missing_ok=True)
    sys.exit(status)


def _serve(own: tuple[str, int], upstream: str, metrics: str, beats: int) -> None:
    """Runs the front in a process of its own, and ends that."""
    from front import serve
    from health import BrokenServerError
    from settings import InvalidSettingError

    address, port = own
    status = 1
    try:
        serve(address, port, upstream, metrics, beats)
        status = 0
    except OSError as error:
        print(f"cannot listen on {address}:{port}: {error.strerror}", file=sys.stderr)
    except (BrokenServerError, InvalidSettingError) as error:
        print(f"front: {error}", file=sys.stderr)
    except Exception:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _reachable(address: str | None) -> str:
    """The address to reach a server that listens on `address`."""
    return _LOOPBACK if address in (None, "0.0.0.0", "::") else address


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as probes:
        sockets = [probes.enter_context(socket.socket()) for _ in range(count)]
        for probe in sockets:
            probe.bind((_LOOPBACK, 0))
        return [probe.getsockname()[1] for probe in sockets]


if __name__ == "__main__":
    main()
