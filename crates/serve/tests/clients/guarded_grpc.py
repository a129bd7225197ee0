#!/usr/bin/env python3
"""A server over gRPC with certificates and tokens: who is let in, for what, and who is not.

guarded_grpc.py BINARY RUN    (pip install tritonclient[grpc] grpcio-health-checking grpcio-reflection trustme)

RUN is a run's folder, whose model takes and gives one FP32 tensor of variable rows. Exits 0 if all is as it should be.
"""
import json
import os
import queue
import subprocess
import sys
import tempfile

import grpc as plain
import numpy as np
import tritonclient.grpc as grpc
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tritonclient.utils import InferenceServerException

binary, run = sys.argv[1:]
work = tempfile.mkdtemp()
APP, OPS, SMALL, SLOW, ONCE = (name + "-0123456789abcdef" for name in ("app", "ops", "small", "slow", "once"))
tokens = [
    {"name": "app", "token": APP, "scopes": ["infer"]},
    {"name": "ops", "token": OPS, "scopes": ["admin"]},
    {"name": "small", "token": SMALL, "scopes": ["infer"], "request_bytes_max": 1000},
    {"name": "slow", "token": SLOW, "scopes": ["infer"], "requests_per_s_max": 0.001},
    {"name": "once", "token": ONCE, "scopes": ["infer"], "requests_per_s_max": 0.001},
]


def path(name, content):
    """A file of its owner only."""
    with open(os.open(f"{work}/{name}", os.O_CREAT | os.O_WRONLY, 0o600), "wb") as file:
        file.write(content)
    return f"{work}/{name}"


authority, other = trustme.CA(), trustme.CA()
server = authority.issue_cert("localhost")
ca = path("ca.pem", authority.cert_pem.bytes())
flags = [
    *("--tls-cert", path("cert.pem", b"".join(pem.bytes() for pem in server.cert_chain_pems))),
    *("--tls-key", path("key.pem", server.private_key_pem.bytes())),
    *("--tokens", path("tokens.json", json.dumps({"tokens": tokens}).encode())),
]
command = [binary, "serve", f"m={run}", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--json", "--quiet", *flags]
log = open(f"{work}/log", "w+")
process = subprocess.Popen([*command, "--log", "json"], stdout=subprocess.PIPE, stderr=log, text=True)
address = json.loads(process.stdout.readline())["grpc"].replace("127.0.0.1", "localhost")


def refused(call, code, *words):
    """The call is refused with this code, in words that help."""
    try:
        call()
    except InferenceServerException as e:
        assert e.status() == f"StatusCode.{code}", (e.status(), e.message())
        assert all(word in e.message() for word in words), e.message()
        return
    except plain.RpcError as e:
        assert e.code().name == code, (e.code(), e.details())
        assert all(word in e.details() for word in words), e.details()
        return
    raise AssertionError(f"{code}: it was not refused")


def by(token):
    """What goes with a call."""
    return {"authorization": f"Bearer {token}"}


try:
    client = grpc.InferenceServerClient(address, ssl=True, root_certificates=ca)
    channel = plain.secure_channel(address, plain.ssl_channel_credentials(authority.cert_pem.bytes()))
    # Health is open to all who trust the server; nobody is answered without encryption, or trusts another authority's.
    assert client.is_server_live() and client.is_server_ready()
    health = health_pb2_grpc.HealthStub(channel)
    assert health.Check(health_pb2.HealthCheckRequest(service="")).status == health_pb2.HealthCheckResponse.SERVING
    refused(lambda: grpc.InferenceServerClient(address).is_server_live(), "UNAVAILABLE")
    foreign = plain.secure_channel(address, plain.ssl_channel_credentials(other.cert_pem.bytes()))
    refused(lambda: health_pb2_grpc.HealthStub(foreign).Check(health_pb2.HealthCheckRequest()), "UNAVAILABLE")

    metadata = client.get_model_metadata("m", headers=by(OPS))
    x = metadata.inputs[0]
    rows = lambda count: np.zeros([count if n < 0 else n for n in x.shape], np.float32)

    def infer(count=1, headers=None):
        given = grpc.InferInput(x.name, list(rows(count).shape), "FP32")
        given.set_data_from_numpy(rows(count))
        return client.infer("m", [given], headers=headers).as_numpy(metadata.outputs[0].name)

    assert len(infer(3, by(APP))) == 3
    calls = [
        lambda headers: client.get_model_metadata("m", headers=headers),
        lambda headers: client.get_server_metadata(headers=headers),
        lambda headers: client.get_inference_statistics(headers=headers),
        lambda headers: client.get_model_repository_index(headers=headers),
        lambda headers: client.load_model("m", headers=headers),
        lambda headers: client.unload_model("m", headers=headers),
        lambda headers: infer(1, headers),
    ]
    for call in calls:
        refused(lambda: call(None), "UNAUTHENTICATED", "there is no token")
        refused(lambda: call(by(APP + "0")), "UNAUTHENTICATED", "not known")
    reflect = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
    asks = [reflection_pb2.ServerReflectionRequest(list_services="")]
    refused(lambda: list(reflect(iter(asks))), "UNAUTHENTICATED")
    assert list(reflect(iter(asks), metadata=list(by(OPS).items())))[0].list_services_response.service
    refused(lambda: infer(1, by(OPS)), "PERMISSION_DENIED", "scope `infer`")
    for call in (client.load_model, client.unload_model):
        refused(lambda: call("m", headers=by(APP)), "PERMISSION_DENIED", "scope `admin`")
    client.load_model("m", headers=by(OPS))
    refused(lambda: infer(9, by(SMALL)), "RESOURCE_EXHAUSTED", "at most 1000 bytes")
    assert len(infer(9, by(APP))) == 9
    client.get_server_metadata(headers=by(SLOW))
    refused(lambda: infer(1, by(SLOW)), "RESOURCE_EXHAUSTED", "requests per second")
    assert len(infer(1, by(APP))) == 1

    # Many requests in one call: who may send the call may send none that is too large, and the end of the server is the end of
    # a call that waits for more.
    came = queue.Queue()
    stream = lambda token: client.start_stream(lambda result, error: came.put((result, error)), headers=by(token))
    given = lambda count: grpc.InferInput(x.name, list(rows(count).shape), "FP32").set_data_from_numpy(rows(count))
    stream(OPS)
    result, error = came.get(timeout=60)
    assert error.status() == "StatusCode.PERMISSION_DENIED" and "scope `infer`" in error.message(), error
    client.stop_stream()
    stream(SMALL)
    client.async_stream_infer("m", [given(9)])
    result, error = came.get(timeout=60)
    assert "at most 1000 bytes" in error.message(), error
    client.stop_stream()
    # Of a token's rate, its requests count, and not the call; each has a line of the log.
    stream(ONCE)
    for name in ["first", "second"]:
        client.async_stream_infer("m", [given(3)], request_id=name)
    result, error = came.get(timeout=60)
    assert error is None and result.get_response().id == "first", error
    result, error = came.get(timeout=60)
    assert "at most 0.001 requests per second" in error.message(), error
    client.stop_stream()
    log.seek(0)
    told = {line["id"]: line for line in map(json.loads, log) if line["target"] == "outgrow::request"}
    assert any(line.get("grpc_status") == "7" and "scope `admin`" in line["error"] for line in told.values())
    first, second = told["first"], told["second"]
    assert (first["grpc_status"], first["model"], first["rows"]) == ("0", "m", 3), first
    assert second["grpc_status"] == "8" and "requests per second" in second["error"] and "model" not in second, second
    stream(APP)
    client.async_stream_infer("m", [given(9)])
    result, error = came.get(timeout=60)
    assert error is None and len(result.as_numpy(metadata.outputs[0].name)) == 9, error
    process.terminate()
    assert process.wait(60) == 0
    client.close()
finally:
    process.kill()
print("gRPC with certificates and tokens: who is let in is let in, and others are not")
