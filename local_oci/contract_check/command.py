"""`check-image`: its options, its output, its exit status."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from pathlib import Path

from local_oci.contract_check.report import CheckRequest
from local_oci.limits import START_TIMEOUT_SECONDS, STOP_GRACE_SECONDS

VERB = "check-image"
HELP = "report whether an image with an artifact keeps the contract of OCI model deployments"
_DESCRIPTION = """\
Run a container image with a model artifact as OCI Data Science model deployments would, in this
machine's Docker engine (DOCKER_HOST), and report line by line what keeps or breaks the contract.
It ends at the first violation, with what to do and the last lines of the container.

Checked are: size of command and entrypoint; names and size of variables; ports; the image and its
platform, linux/amd64; that there is something to run; curl in the image; the artifact; that the
container becomes healthy without root, with a read-only artifact in /opt/ds/model/deployed_model
and a read-only root file system (/tmp and /dev/shm can be written to); the ports that it listens
on; that it ends at SIGTERM. A container that does not become healthy is run again with one
constraint less at a time, to find out which one it was; each run may take the --timeout.

Containers, volumes and files of the check are removed, and containers of checks that were killed.
An image that was pulled stays.
"""
_EPILOG = """\
A word that begins with "-" is given as --cmd=--http-port=8000. The health check asks for /health,
or what MODEL_DEPLOY_HEALTH_ENDPOINT or CONTAINER_TYPE say. SHM_SIZE is the size of /dev/shm.

exit status: 0 the contract is kept; 1 it is broken, or no Docker engine answers; 2 wrong usage

example:
  python -m local_oci check-image --image triton:24.05 --artifact model.zip \\
      --cmd tritonserver --cmd=--model-repository=/opt/ds/model/deployed_model \\
      --cmd=--http-port=8000 --env MODEL_DEPLOY_HEALTH_ENDPOINT=/v2/health/ready
"""


def add_command(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb to a command line."""
    parser = verbs.add_parser(
        VERB,
        help=HELP,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--image", required=True, metavar="REF", help="the container image")
    parser.add_argument(
        "--artifact",
        required=True,
        type=_existing,
        metavar="FILE_OR_DIR",
        help="the model artifact: a zip archive, or a directory with what would be in it",
    )
    for name, of_image in (("entrypoint", "ENTRYPOINT"), ("cmd", "CMD")):
        parser.add_argument(
            f"--{name}",
            nargs="+",
            action="extend",
            default=[],
            metavar="WORD",
            help=f"words in place of the image's {of_image}; can be given several times",
        )
    parser.add_argument(
        "--port", type=int, default=8000, help="port of the inference server (%(default)s)"
    )
    parser.add_argument(
        "--health-port", type=int, metavar="N", help="port of the health check (that of --port)"
    )
    parser.add_argument(
        "--env",
        type=_variable,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="environment variable of the deployment; can be given several times",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=START_TIMEOUT_SECONDS,
        metavar="SECONDS",
        help="how long the container may take to become healthy (%(default)g, as in the cloud)",
    )
    parser.add_argument(
        "--stop-grace",
        type=int,
        default=STOP_GRACE_SECONDS,
        metavar="SECONDS",
        help="how long the container may take to end after SIGTERM (%(default)d)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object in place of the lines"
    )


def run(options: argparse.Namespace) -> int:
    """Check what the command line names; return the exit status."""
    try:
        return asyncio.run(_run(options))
    except KeyboardInterrupt:
        return 1
    except OSError as error:  # an output that is full or closed, for instance
        print(f"{error.filename or 'check-image'}: {error.strerror or error}", file=sys.stderr)
        return 1


async def _run(options: argparse.Namespace) -> int:
    # A third of a second of imports that no other verb needs.
    from local_oci.contract_check.check import check
    from local_oci.contract_check.report import json_of, line_of, verdict_of
    from local_oci.runtime.docker_engine import EngineError

    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        try:
            report = await check(
                _request(options),
                lambda finding: None if options.json else print(line_of(finding), flush=True),
                lambda text: print(f"({text})", file=sys.stderr, flush=True),
            )
        except EngineError as error:
            print(error, file=sys.stderr)
            return 1
        print(json_of(report) if options.json else verdict_of(report))
        return 0 if report.passed else 1
    return 1


def _request(options: argparse.Namespace) -> CheckRequest:
    return CheckRequest(
        image=options.image,
        artifact=options.artifact,
        entrypoint=tuple(options.entrypoint),
        cmd=tuple(options.cmd),
        server_port=options.port,
        health_port=options.port if options.health_port is None else options.health_port,
        environment=dict(options.env),
        timeout=options.timeout,
        stop_grace=options.stop_grace,
    )


def _existing(text: str) -> Path:
    path = Path(text)
    if not path.exists():
        raise argparse.ArgumentTypeError(f"{text} does not exist")
    return path


def _variable(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=VALUE")
    return name, value
