"""A network bridge for an engine of the tests: with a subnet that nobody uses, and gone in the end.

An engine without a bridge of its own would take docker0, and one that is told to have none deletes
it, whoever's it is (moby, daemon/daemon_unix.go, removeDefaultBridgeInterface).
"""

import contextlib
import ipaddress
import json
import os
import random
import secrets
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.debian import install

_INSTALL = "apt-get install --no-install-recommends iproute2"
_DEFAULT_BRIDGE = Path("/sys/class/net/docker0")
# Docker's own pools are 172.17.0.0/12 and 192.168.0.0/16 (libnetwork, ipamutils).
_SUBNETS = list(ipaddress.ip_network("10.96.0.0/11").subnets(new_prefix=24))
_PREFIX = "falconry"


@contextlib.contextmanager
def own_bridge():
    """Makes a bridge; gives its name, or `none` where there can be none and none is in danger."""
    if not shutil.which("ip") and os.geteuid() == 0:
        install("iproute2")
    if not shutil.which("ip"):
        yield _none(f"there is no ip; try {_INSTALL}")
        return
    name, subnet = f"{_PREFIX}{secrets.token_hex(3)}", _free_subnet()
    made = _run("ip", "link", "add", "name", name, "type", "bridge")
    if made.returncode != 0:
        yield _none(f"no bridge can be made ({made.stderr.strip()})")
        return
    rules = _rules(name, subnet)
    try:
        _run("ip", "address", "add", f"{subnet[1]}/{subnet.prefixlen}", "dev", name)
        _run("ip", "link", "set", name, "up")
        for rule in rules:
            _iptables("--insert", rule)
        yield name
    finally:
        for rule in rules:
            _iptables("--delete", rule)
        _run("ip", "link", "delete", name)


def _none(problem):
    if _DEFAULT_BRIDGE.exists():
        pytest.skip(f"a Docker engine here would harm the one whose docker0 there is: {problem}")
    return "none"


def _free_subnet():
    """One that no address and no route of this machine is in; by chance, for others choose too."""
    told = json.loads(_run("ip", "-json", "-4", "route", "show", "table", "all").stdout or "[]")
    words = [route["dst"] for route in told if route.get("dst", "default") != "default"]
    taken = [ipaddress.ip_network(word) for word in words]
    free = [subnet for subnet in _SUBNETS if not any(map(subnet.overlaps, taken))]
    return random.choice(free)


def _rules(name, subnet):
    """What lets containers out, and the answers in: table, chain and match."""
    return (
        f"nat POSTROUTING --source {subnet} ! --out-interface {name} --jump MASQUERADE",
        f"filter FORWARD --in-interface {name} --jump ACCEPT",
        f"filter FORWARD --out-interface {name} --match conntrack"
        " --ctstate RELATED,ESTABLISHED --jump ACCEPT",
    )


def _iptables(action, rule):
    table, *words = rule.split()
    if shutil.which("iptables"):
        _run("iptables", "--wait", "--table", table, action, *words)


def _run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False)
