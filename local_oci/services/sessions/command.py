"""`session`: its options, and what it prints."""

from __future__ import annotations

import argparse
import shlex
import sys
from datetime import timedelta

from local_oci.home import Home, HomeError

VERB = "session"
HELP = "make a session of the user, a resource principal or an instance principal"
_DESCRIPTION = """\
Make something that can sign requests besides the user's API key, in the ways of the SDK:

  user      a profile of D/config with security_token_file, as `oci session authenticate` makes it
  resource  a resource principal, version 2.2; prints the variables for
            oci.auth.signers.get_resource_principals_signer()
  instance  the metadata of a compute instance; prints the variables for
            oci.auth.signers.InstancePrincipalsSecurityTokenSigner, which needs
            federation_endpoint="<endpoint of the cloud>/v1/x509" as well; the cloud must run

The variables are printed as lines of a shell.
"""


def add_command(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser],
) -> argparse.ArgumentParser:
    """Add the verb to a command line."""
    parser = verbs.add_parser(
        VERB,
        help=HELP,
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--kind",
        choices=("user", "resource", "instance"),
        default="user",
        help="of what (%(default)s)",
    )
    parser.add_argument(
        "--name",
        type=_name,
        metavar="NAME",
        help="of the profile, and of the directory D/sessions/NAME (SESSION or resource)",
    )
    parser.add_argument(
        "--lifetime",
        type=float,
        default=3600.0,
        metavar="SECONDS",
        help="how long the token is good (%(default)g); that of an instance is an hour",
    )
    return parser


def run(home: Home, options: argparse.Namespace) -> int:
    """Run the command; return the exit status."""
    from local_oci.identity import load_or_create  # cryptography, which no other verb needs
    from local_oci.services.sessions.issuing import (
        issue_instance_principal,
        issue_resource_principal,
        issue_user_session,
    )

    try:
        home.prepare()
    except HomeError as error:
        print(error, file=sys.stderr)
        return 1
    identity = load_or_create(home)
    lifetime = timedelta(seconds=options.lifetime)
    match options.kind:
        case "user":
            name = options.name or "SESSION"
            issue_user_session(home, identity, name, lifetime)
            print(f"profile {name} of {home.config}")
        case "resource":
            name = options.name or "resource"
            _print_variables(issue_resource_principal(home, identity, name, lifetime))
        case _:
            if not home.endpoint.exists():
                print(f"{home.root}: no cloud runs there; start it first", file=sys.stderr)
                return 1
            _print_variables(issue_instance_principal(home, identity))
    return 0


def _print_variables(variables: dict[str, str]) -> None:
    for name, value in variables.items():
        print(f"{name}={shlex.quote(value)}")


def _name(text: str) -> str:
    if not text.replace("-", "").replace("_", "").isalnum() or text == "DEFAULT":
        raise argparse.ArgumentTypeError(f"'{text}' is not a name of letters, digits, - and _")
    return text
