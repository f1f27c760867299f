"""Requests to a local cloud that are wrong in every part, as strategies of hypothesis."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import partial
from typing import Any
from urllib.parse import quote

from hypothesis import strategies as st
from starlette.routing import Route

from local_oci.app import LOCAL_ROUTES, SERVICE_ROUTES
from scripts.fuzz.cloud_client import Cloud, Request

_PARAMETER = re.compile(r"\{(\w+)(?::path)?\}")

# --- texts and JSON ---------------------------------------------------------------------------

_NASTY = (
    *(
        "",
        " ",
        ".",
        "..",
        "../../etc/passwd",
        "//",
        "\0",
        "a\nb",
        "\x7f",
        "\ufffd",
        "ключ",
        "²",
        "٣",
    ),
    *("-1", "0", "1", "9" * 19, "9" * 5000, "1e999", "NaN", "inf", "null", "true", "0x10", "*"),
    *("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-01-01T00:00:00+99:99"),
    *("[" * 2000, '{"a":' * 500, "a" * 3000, "'", '"', "''", "%", "%zz", "%ff", "{}", "PT99999H"),
    *('search "a/b/c" | where ' + "a = 'b' and " * 100, 'search "' + "'|" * 800, "| " * 900),
    *("query x resources where " + "a = 'b' && " * 100, "bytes=0-" + "9" * 5000, "bytes=-"),
)
_TEXTS = st.one_of(st.sampled_from(_NASTY), st.text(max_size=40))
_NUMBERS = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from((2**31, 2**63, -(2**63) - 1, 10**400, 10**4000, 1e308, -0.0)),
)
_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), _NUMBERS, _TEXTS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
_RAW = st.one_of(
    st.binary(max_size=200),
    st.sampled_from(
        (
            *(b"[" * 100_000, b'{"a":' * 50_000, b"9" * 5000, b"[" + b"9" * 5000 + b"]", b"1e999"),
            *(
                b"NaN",
                b"[Infinity]",
                b'"\\ud800"',
                b'"\xed\xa0\x80"',
                b'{"displayName": "\\udfff"}',
            ),
            *(b"\xff\xfe1\x00", b"\xef\xbb\xbf{}", b"{", b'{"a":1,"a":2}', b"\x1f\x8b\x08junk"),
            b"[" + b"[],".join([b""] * 10_000) + b"[]]",
        )
    ),
)


def _with(value: dict[str, Any], name: str, new: Any) -> dict[str, Any]:
    return {**value, name: new}


def _mutated(value: Any) -> st.SearchStrategy[Any]:
    """JSON with any part replaced by something else."""
    parts: list[st.SearchStrategy[Any]] = [_JSON, st.just(value)]
    if isinstance(value, dict):
        for name, inner in value.items():
            changed = _mutated(inner).map(partial(_with, value, name))
            parts += [changed, changed, st.just({k: v for k, v in value.items() if k != name})]
    elif isinstance(value, list) and value:
        parts.append(_mutated(value[0]).map(lambda new: [new]))
    return st.one_of(parts)


@dataclass(frozen=True, slots=True)
class _Body:
    """A body that an operation takes, and where it goes."""

    method: str
    path: str
    content: dict[str, Any] = field(default_factory=dict)


def _deployment(cloud: Cloud) -> dict[str, Any]:
    rule = {
        "metricExpressionRuleType": "CUSTOM_EXPRESSION",
        "scaleInConfiguration": {
            "scalingConfigurationType": "QUERY",
            "pendingDuration": "PT5M",
            "query": 'a{resourceId = "MODEL_DEPLOYMENT_OCID"}',
        },
        "scaleOutConfiguration": {
            "scalingConfigurationType": "QUERY",
            "query": 'a{resourceId = "MODEL_DEPLOYMENT_OCID"}',
        },
    }
    scaling = {
        "policyType": "AUTOSCALING",
        "coolDownInSeconds": 600,
        "autoScalingPolicies": [
            {
                "autoScalingPolicyType": "THRESHOLD",
                "minimumInstanceCount": 1,
                "maximumInstanceCount": 2,
                "initialInstanceCount": 1,
                "rules": [rule],
            }
        ],
    }
    instance = {
        "instanceShapeName": "VM.Standard.E4.Flex",
        "modelDeploymentInstanceShapeConfigDetails": {"ocpus": 1, "memoryInGBs": 16},
        "subnetId": "ocid1.subnet.oc1..a",
        "capacityReservationIds": ["ocid1.capacityreservation.oc1..a"],
    }
    environment = {
        "environmentConfigurationType": "OCIR_CONTAINER",
        "image": "local/none:1",
        "cmd": ["serve"],
        "serverPort": 8000,
        "healthCheckPort": 8000,
        "environmentVariables": {"SHM_SIZE": "5g"},
        "customHttpEndpoints": [{"endpointUriSuffix": "/a", "httpMethods": ["GET"]}],
    }
    return {
        "compartmentId": cloud.tenancy,
        "projectId": cloud.identifiers["project_id"],
        "modelDeploymentConfigurationDetails": {
            "deploymentType": "SINGLE_MODEL",
            "modelConfigurationDetails": {
                "modelId": cloud.identifiers["model_id"],
                "instanceConfiguration": instance,
                "scalingPolicy": scaling,
                "bandwidthMbps": 10,
                "maximumBandwidthMbps": 20,
            },
            "environmentConfigurationDetails": environment,
        },
    }


def _known_bodies(cloud: Cloud) -> list[_Body]:
    here = {"compartmentId": cloud.tenancy}
    tags = {"freeformTags": {"a": "b"}, "definedTags": {"n": {"k": "v"}}}
    names = cloud.identifiers
    project = {**here, "projectId": names["project_id"]}
    search = "search \"a\" | where b = 'c*' | sort by datetime desc"
    entry = {"id": "1", "data": '{"a": 1}', "time": "2026-01-01T00:00:00Z"}
    batch = {"source": "s", "type": "t", "defaultlogentrytime": entry["time"], "entries": [entry]}
    item = {"key": "k", "value": "v", "category": "Other"}
    return [
        _Body("POST", "/20190101/projects", {**here, "displayName": "p", **tags}),
        _Body("PUT", f"/20190101/projects/{names['project_id']}", {"displayName": "p", **tags}),
        _Body("POST", "/20190101/models", {**project, "customMetadataList": [item], **tags}),
        _Body("PUT", f"/20190101/models/{names['model_id']}", {"definedMetadataList": [item]}),
        _Body("PUT", f"/20190101/models/{names['model_id']}/provenance", {"gitCommit": "c"}),
        _Body("POST", "/20190101/modelVersionSets", {**project, "name": "v"}),
        _Body("POST", "/20190101/modelDeployments", _deployment(cloud)),
        _Body("POST", "/n/localoci/b", {**here, "name": "b", "metadata": {"a": "b"}}),
        _Body(
            "POST",
            "/n/localoci/b/fuzz/u",
            {"object": "o", "contentType": "a/b", "metadata": {"opc-meta-a": "b"}},
        ),
        _Body(
            "POST",
            f"/n/localoci/b/fuzz/u/an/object?uploadId={names['upload']}",
            {"partsToCommit": [{"partNum": 1, "etag": "e"}], "partsToExclude": [2]},
        ),
        _Body("POST", "/20200531/logGroups", {**here, "displayName": "g", **tags}),
        _Body(
            "POST",
            "/20190909/search",
            {
                "timeStart": "2026-01-01T00:00:00Z",
                "timeEnd": "2026-01-02T00:00:00Z",
                "searchQuery": search,
            },
        ),
        _Body(
            "POST",
            "/20200831/logs/none/actions/push",
            {"specversion": "1.0", "logEntryBatches": [batch]},
        ),
        _Body(
            "POST",
            "/20180409/resources",
            {"type": "Structured", "query": "query datasciencemodeldeployment resources"},
        ),
        _Body("POST", f"/20160918/users/{names['user_id']}/authTokens", {"description": "d"}),
        _Body("POST", "/20160918/container/repositories", {**here, "displayName": "a/b"}),
    ]


def _encoded(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


def bodies(cloud: Cloud) -> st.SearchStrategy[Request]:
    """Signed bodies that an operation nearly takes, or that nothing takes."""

    def of(known: _Body) -> st.SearchStrategy[Request]:
        content = st.one_of(_mutated(known.content).map(_encoded), _RAW)
        return content.map(
            lambda body: Request(known.method.encode(), known.path.encode(), body=body)
        )

    return st.one_of([of(known) for known in _known_bodies(cloud)])


# --- signed requests to every route -----------------------------------------------------------

_QUERY_NAMES = (
    *("compartmentId", "limit", "page", "sortBy", "sortOrder", "displayName", "id", "prefix"),
    *("start", "startAfter", "end", "delimiter", "fields", "uploadId", "uploadPartNum", "scope"),
    *("serviceName", "isDeleteRelatedModels", "repositoryName", "version", "lifecycleState"),
)
_HEADER_NAMES = (
    *("range", "if-match", "if-none-match", "opc-retry-token", "opc-request-id", "content-md5"),
    *("opc-meta-a", "opc-checksum-algorithm", "opc-content-crc32c", "content-disposition"),
    *("content-encoding", "content-type", "cache-control", "x-forwarded-for", "model_name", "te"),
    *("model_version", "expect", "transfer-encoding", "accept-encoding", "upgrade", "origin"),
)


def _header_value(text: str) -> bytes:
    """A text as a header can carry it; others are refused before the cloud sees them."""
    return text.encode("utf-8", "replace").translate(None, b"\r\n\0").strip()[:8000]


def _headers() -> st.SearchStrategy[tuple[tuple[bytes, bytes], ...]]:
    one = st.tuples(
        st.sampled_from([name.encode() for name in _HEADER_NAMES]), _TEXTS.map(_header_value)
    )
    return st.lists(one, max_size=3, unique_by=lambda pair: pair[0]).map(tuple)


def _target(cloud: Cloud, template: str) -> st.SearchStrategy[bytes]:
    """A path of a route, with its parameters and a query."""
    names = _PARAMETER.findall(template)
    value = {
        name: st.one_of(st.just(cloud.identifiers.get(name, "none")), _TEXTS) for name in names
    }
    tenancy = st.just(("compartmentId", cloud.tenancy))
    pair = st.one_of(tenancy, st.tuples(st.sampled_from(_QUERY_NAMES), _TEXTS))
    query = st.lists(pair, max_size=3)

    def build(values: dict[str, str], pairs: list[tuple[str, str]]) -> bytes:
        path = _PARAMETER.sub(lambda match: _escaped(values[match[1]]), template)
        text = "&".join(f"{name}={_escaped(text)}" for name, text in pairs)
        return (f"{path}?{text}" if text else path).encode()

    return st.builds(build, st.fixed_dictionaries(value), query)


def _escaped(text: str) -> str:
    return quote(text.encode("utf-8", "surrogatepass"), safe="/")


def requests(cloud: Cloud) -> st.SearchStrategy[Request]:
    """Signed requests to every route."""

    def of(path: str, method: str) -> st.SearchStrategy[Request]:
        takes_body = method in ("POST", "PUT")
        body = st.one_of(_JSON.map(_encoded), _RAW) if takes_body else st.none()
        return st.builds(
            Request,
            method=st.just(method.encode()),
            target=_target(cloud, path),
            headers=_headers(),
            body=body,
        )

    return st.sampled_from(_of_routes(SERVICE_ROUTES)).flatmap(lambda pair: of(*pair))


def _of_routes(routes: Sequence[Route]) -> list[tuple[str, str]]:
    return sorted((route.path, method) for route in routes for method in route.methods or ())


# --- heads that no client sends ---------------------------------------------------------------


def heads(cloud: Cloud) -> st.SearchStrategy[Request]:
    """Request lines and headers of any bytes, signed and unsigned."""
    word = st.one_of(
        st.sampled_from((b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"CONNECT")),
        st.binary(min_size=1, max_size=8),
    )
    target = st.one_of(
        st.sampled_from(
            (
                *(b"*", b"http://127.0.0.1/n", b"http://[::1/n", b"/n?%zz", b"/%ff", b"/n?\xff"),
                *(
                    b"//n",
                    b"/n/",
                    b"/n/localoci/b/%00/o",
                    b"/_local/health",
                    b"n",
                    b"/" + b"a" * 70_000,
                ),
                *(
                    b"/none/predict",
                    b"/none/predict/%2e%2e/a",
                    b"/none/predict//evil/a",
                    b"?",
                    b"#",
                ),
            )
        ),
        st.binary(max_size=30).map(lambda text: b"/" + text),
    )
    name = st.one_of(
        st.sampled_from((b"host", b"date", b"content-length", b"transfer-encoding", b"cookie")),
        st.binary(min_size=1, max_size=8),
    )
    value = st.one_of(
        st.binary(max_size=40),
        st.sampled_from((b"[::1", b"a:b:c", b"chunked", b"9" * 5000, b"a" * 70_000, b"-1")),
    )
    return st.builds(
        Request,
        method=word,
        target=target,
        headers=st.lists(st.tuples(name, value), max_size=3).map(tuple),
        body=st.one_of(st.none(), st.binary(max_size=50)),
        signed=st.booleans(),
    )


# --- requests without a right to an answer ------------------------------------------------------


def forged(cloud: Cloud) -> st.SearchStrategy[Request]:
    """Requests whose signature is wrong: damaged, of another time, or no signature at all."""
    parameter = st.tuples(
        st.sampled_from(("keyId", "algorithm", "headers", "signature", "version", "a")), _TEXTS
    )
    written = st.lists(parameter, max_size=6).map(
        lambda pairs: "Signature " + ",".join(f'{name}="{value}"' for name, value in pairs)
    )
    token = _TEXTS.map(
        lambda text: (
            'Signature version="1",algorithm="rsa-sha256",headers="date (request-target) host",'
            f'keyId="ST${_base64(text)}.e30.e30",signature="aaaa"'
        )
    )
    long = st.sampled_from(
        ("Signature " + "a" * 60_000, "Signature " + 'a="b",' * 10_000, "Signature " + '"' * 60_000)
    )
    basic = st.binary(max_size=40).map(lambda text: f"Basic {base64.b64encode(text).decode()}")
    authorization = st.one_of(written, token, long, basic, _TEXTS).map(
        lambda text: text.encode("utf-8", "replace").translate(None, b"\r\n\0")[:62_000].strip()
    )
    date = st.one_of(
        st.just(formatdate(usegmt=True)),
        st.sampled_from(
            (
                "Mon, 01 Jan 2026 00:00:00 +9999999999999999",
                "Mon, 01 Jan 0001 00:00:00 +2359",
                "Mon, 32 Jan 2026 00:00:00 GMT",
                "9" * 5000,
            )
        ),
        _TEXTS,
    ).map(_header_value)
    paths = (b"/n", b"/20190101/projects?compartmentId=a", b"/n/localoci/b/fuzz/o/an/object")
    return st.builds(
        lambda method, target, value, when: Request(
            method, target, ((b"authorization", value), (b"date", when)), signed=False
        ),
        st.sampled_from((b"GET", b"POST", b"PUT", b"DELETE")),
        st.sampled_from((*paths, b"/20190101/models", b"/v1/x509", b"/none/predict")),
        authorization,
        date,
    )


def _base64(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode("utf-8", "replace")).decode()


def local(cloud: Cloud) -> st.SearchStrategy[Request]:
    """Requests to the cloud's own routes that lack something: the token, a host, or an origin."""
    bearer = b"Bearer " + cloud.token
    wrong = st.one_of(
        st.tuples(st.just(b"authorization"), _TEXTS.map(_header_value)),
        st.just((b"authorization", b"Bearer")),
        st.just((b"authorization", bearer[:-1])),
        st.just((b"x-forwarded-for", b"127.0.0.1")),
    ).map(lambda pair: (pair,))
    foreign = st.sampled_from((b"evil.example", b"10.0.0.1:80", b"[::1", b"", b"localhost.evil"))
    elsewhere = foreign.map(lambda host: ((b"host", host), (b"authorization", bearer)))
    of_a_page = _TEXTS.map(
        lambda text: ((b"origin", _header_value(text)), (b"authorization", bearer))
    )
    routes = sorted(
        (route.path, method) for route in LOCAL_ROUTES for method in route.methods or ()
    )
    return st.builds(
        lambda route, headers, body: Request(
            route[1].encode(), _PARAMETER.sub("x", route[0]).encode(), headers, body, signed=False
        ),
        st.sampled_from(routes),
        st.one_of(wrong, elsewhere, of_a_page),
        st.one_of(st.none(), _JSON.map(_encoded)),
    )
