#!/usr/bin/env python3
"""Runs every call of `tritonclient.grpc` (and of its asyncio form) that the protocol covers against a server.

tritonclient_grpc.py HOST:PORT MODEL    (pip install tritonclient[grpc] grpcio-health-checking grpcio-reflection)

MODEL takes and gives one FP32 tensor of variable rows. It is unloaded and loaded on the way. Exits 0 if all calls did
what they should; says which did not otherwise.
"""
import asyncio
import json
import queue
import sys

import grpc as plain
import numpy as np
import tritonclient.grpc as grpc
import tritonclient.grpc.aio as aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

address, model = sys.argv[1:]
client = grpc.InferenceServerClient(address)


def refused(call, status, *words):
    """The call is refused with this status, in words that help."""
    try:
        call()
    except InferenceServerException as e:
        assert e.status() == f"StatusCode.{status}", (e.status(), e.message())
        assert all(word in e.message() for word in words), e.message()
        return
    except plain.RpcError as e:
        assert e.code().name == status, (e.code(), e.details())
        assert all(word in e.details() for word in words), e.details()
        return
    raise AssertionError(f"{words}: it was not refused")


# The server and its models.
assert client.is_server_live() and client.is_server_ready()
server = client.get_server_metadata()
assert server.name == "outgrow", server
for extension in ["model_repository", "model_configuration", "statistics", "schedule_policy"]:
    assert extension in server.extensions, server
assert client.is_model_ready(model) and not client.is_model_ready("nothing")
metadata = client.get_model_metadata(model)
version = metadata.versions[-1]
assert client.is_model_ready(model, version) and not client.is_model_ready(model, "999")
assert client.get_model_metadata(model, version) == metadata
x, y = metadata.inputs[0], metadata.outputs[0]
assert x.datatype == y.datatype == "FP32" and x.shape[0] == y.shape[0] == -1, metadata
config = client.get_model_config(model).config
assert config == client.get_model_config(model, version).config
assert config.name == model and config.max_batch_size > 1 and config.instance_group[0].kind == 2, config
assert (config.input[0].name, config.input[0].data_type) == (x.name, 11), config
assert list(config.input[0].dims) == list(x.shape[1:]) and list(config.output[0].dims) == list(y.shape[1:]), config
refused(lambda: client.get_model_metadata("nothing"), "NOT_FOUND", "nothing", model)
refused(lambda: client.get_model_config(model, "999"), "NOT_FOUND", "999")

# Inference: the whole answer or chosen outputs, packed or not by the client's own means, with all parameters.
rows = 40
data = np.random.default_rng(7).random([rows, *x.shape[1:]], dtype=np.float32)


def given(array):
    return [grpc.InferInput(x.name, list(array.shape), "FP32").set_data_from_numpy(array)]


first = client.infer(model, given(data))
expect = first.as_numpy(y.name)
assert expect.shape == (rows, *y.shape[1:]) and np.isfinite(expect).all()
assert first.get_response().model_name == model and first.get_response().model_version == version
for outputs in [None, [grpc.InferRequestedOutput(y.name)]]:
    answer = client.infer(
        model, given(data), model_version=version, outputs=outputs, request_id="seven", priority=1,
        timeout=60_000_000, client_timeout=60, headers={"x-trace": "1"}, parameters={"mine": "yes"},
    )
    assert answer.as_numpy(y.name).tobytes() == expect.tobytes() and answer.get_response().id == "seven"

# Typed contents, in place of raw ones; both at once are refused, and so are others than the shape has.
stub = service_pb2_grpc.GRPCInferenceServiceStub(plain.insecure_channel(address))


def typed(datatype="FP32", shape=data.shape, raw=None, **contents):
    request = service_pb2.ModelInferRequest(model_name=model)
    request.inputs.add(name=x.name, datatype=datatype, shape=shape, contents=contents or None)
    if raw is not None:
        request.raw_input_contents.append(raw)
    return request


answer = stub.ModelInfer(typed(fp32_contents=data.ravel()))
assert answer.raw_output_contents[0] == expect.tobytes() and list(answer.outputs[0].shape) == list(expect.shape)
refused(lambda: stub.ModelInfer(typed(fp32_contents=data.ravel()[1:])), "INVALID_ARGUMENT", "fp32_contents", "by the shape")
refused(lambda: stub.ModelInfer(typed(raw=data.tobytes(), fp32_contents=data.ravel())), "INVALID_ARGUMENT", "leave out")
refused(lambda: stub.ModelInfer(typed(raw=data.tobytes()[4:])), "INVALID_ARGUMENT", "bytes")
refused(lambda: stub.ModelInfer(typed()), "INVALID_ARGUMENT", "no data")
refused(lambda: stub.ModelInfer(typed("FP64", fp64_contents=data.ravel())), "INVALID_ARGUMENT", "f64")
refused(lambda: stub.ModelInfer(typed(shape=[-1, 4], raw=b"")), "INVALID_ARGUMENT", "negative")
refused(lambda: stub.ModelInfer(typed(shape=[1 << 62, 1 << 62], raw=b"")), "INVALID_ARGUMENT", "too large")

# Many at once.
done = []
for i in range(rows):
    client.async_infer(model, given(data[i : i + 1]), lambda result, error, i=i: done.append((i, result, error)))
while len(done) < rows:
    assert client.is_server_live()
for i, result, error in done:
    assert error is None and result.as_numpy(y.name).tobytes() == expect[i : i + 1].tobytes()

# Requests and answers that are compressed, and an answer that is not where its request is not.
for algorithm in ["gzip", "deflate"]:
    answer = client.infer(model, given(data), compression_algorithm=algorithm)
    assert answer.as_numpy(y.name).tobytes() == expect.tobytes(), algorithm
bomb = np.zeros([1 << 20, *x.shape[1:]], dtype=np.float32)
large = grpc.InferenceServerClient(address, channel_args=[("grpc.max_send_message_length", -1)])
refused(lambda: large.infer(model, given(bomb), compression_algorithm="gzip"), "RESOURCE_EXHAUSTED", "size limit")
large.close()

# Many in one call: answers come in the order of the requests, each with the bits it has alone, and what is wrong with one is
# its answer alone.
came = queue.Queue()
client.start_stream(lambda result, error: came.put((result, error)), compression_algorithm="gzip")
for i in range(rows):
    name = "nothing" if i == 7 else model
    client.async_stream_infer(name, given(data[i : i + 1]), request_id=str(i), enable_empty_final_response=i % 2 == 0)
for i in range(rows):
    result, error = came.get(timeout=60)
    if i == 7:
        assert result is None and "nothing" in error.message() and model in error.message(), error
        continue
    assert error is None and result.get_response().id == str(i), (i, error)
    assert result.as_numpy(y.name).tobytes() == expect[i : i + 1].tobytes()
    assert result.get_response().parameters["triton_final_response"].bool_param
client.stop_stream()
answers = list(stub.ModelStreamInfer(iter([typed(fp32_contents=data.ravel())] * 200)))
assert len(answers) == 200 and all(one.infer_response.raw_output_contents[0] == expect.tobytes() for one in answers)

# Raw records, where the model takes images: what is none is refused by its place.
raw = model + ".raw"
if client.is_model_ready(raw):
    wrong = grpc.InferInput("raw", [1], "BYTES").set_data_from_numpy(np.array([b"no image"], dtype=np.object_))
    refused(lambda: client.infer(raw, [wrong]), "INVALID_ARGUMENT", "inputs[0].data[0]", "image")

# What is wrong.
refused(lambda: client.infer("nothing", given(data)), "NOT_FOUND", "nothing")
refused(lambda: client.infer(model, given(data), model_version="999"), "NOT_FOUND", "999")
wrong = grpc.InferInput("wrong", list(data.shape), "FP32").set_data_from_numpy(data)
refused(lambda: client.infer(model, [wrong]), "INVALID_ARGUMENT", "wrong", x.name)
refused(lambda: client.infer(model, given(data), outputs=[grpc.InferRequestedOutput("wrong")]), "INVALID_ARGUMENT", "wrong")
refused(lambda: client.infer(model, given(data), timeout=1), "UNAVAILABLE", "in time")
classes = [grpc.InferRequestedOutput(y.name, class_count=3)]
refused(lambda: client.infer(model, given(data), outputs=classes), "INVALID_ARGUMENT", "classification")
shared = grpc.InferRequestedOutput(y.name)
shared.set_shared_memory("region", 4)
refused(lambda: client.infer(model, given(data), outputs=[shared]), "INVALID_ARGUMENT", "shared")
refused(client.get_trace_settings, "UNIMPLEMENTED")

# Statistics.
stats = client.get_inference_statistics(model).model_stats[0]
assert client.get_inference_statistics(model, version).model_stats[0].name == model
assert stats.name == model and stats.version == version, stats
assert stats.inference_stats.success.count >= 4 + rows and stats.inference_stats.fail.count >= 10, stats
assert stats.inference_count >= 5 * rows and 0 < stats.execution_count <= stats.inference_count, stats
assert stats.last_inference > 1_700_000_000_000 and stats.batch_stats[0].compute_infer.ns > 0, stats
assert model in [one.name for one in client.get_inference_statistics().model_stats]

# The repository.
index = [(one.name, one.version, one.state) for one in client.get_model_repository_index().models]
assert (model, version, "READY") in index, index
client.unload_model(model)
assert not client.is_model_ready(model)
assert (model, "UNAVAILABLE") in [(one.name, one.state) for one in client.get_model_repository_index().models]
refused(lambda: client.infer(model, given(data)), "UNAVAILABLE", "unloaded")
client.load_model(model)
assert client.infer(model, given(data)).as_numpy(y.name).tobytes() == expect.tobytes()
client.load_model(model, config=json.dumps({"version_policy": {"specific": {"versions": [int(version)]}}}))
refused(lambda: client.load_model("nothing"), "NOT_FOUND", "nothing")
refused(lambda: client.unload_model("nothing"), "NOT_FOUND", "nothing")
refused(lambda: client.load_model(model, config="{"), "INVALID_ARGUMENT", "config")
refused(lambda: client.load_model(model, config="{}", files={"file:1/model.onnx": b"x"}), "UNIMPLEMENTED", "file:")

# Health and reflection, as tools without the protocol's own code look at a server.
service = "inference.GRPCInferenceService"
channel = plain.insecure_channel(address)
health = health_pb2_grpc.HealthStub(channel)
for name in ["", service]:
    assert health.Check(health_pb2.HealthCheckRequest(service=name)).status == health_pb2.HealthCheckResponse.SERVING
reflection = ProtoReflectionDescriptorDatabase(channel)
assert {service, "grpc.health.v1.Health"} <= set(reflection.get_services()), reflection.get_services()
found = reflection.FindFileContainingSymbol(service)
theirs = {m.name: m for m in service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods}
for method in found.service[0].method:
    other = theirs[method.name]
    assert method.input_type == "." + other.input_type.full_name, method
    assert method.output_type == "." + other.output_type.full_name, method


def same(message, other):
    """Every field here is a field there, by its number, type and label."""
    for field in message.field:
        match = other.fields_by_number[field.number]
        assert (field.name, field.type) == (match.name, match.type), (message.name, field, match.name)
        assert (field.label == field.LABEL_REPEATED) == match.is_repeated, (message.name, field)
    for nested in message.nested_type:
        same(nested, other.nested_types_by_name[nested.name])


for message in found.message_type:
    files = [service_pb2.DESCRIPTOR, model_config_pb2.DESCRIPTOR]
    same(message, next(file.message_types_by_name[message.name] for file in files if message.name in file.message_types_by_name))
client.close()


async def again():
    """The same client for asyncio."""
    async with aio.InferenceServerClient(address) as client:
        assert await client.is_server_live() and await client.is_model_ready(model)
        assert (await client.get_model_metadata(model)) == metadata
        results = await asyncio.gather(*[client.infer(model, given(data[i : i + 2])) for i in (0, 2, 4)])
        assert b"".join(one.as_numpy(y.name).tobytes() for one in results) == expect[:6].tobytes()

        async def requests():
            for i in range(3):
                yield {"model_name": model, "inputs": given(data[i : i + 1]), "request_id": str(i)}

        i = 0
        async for result, error in client.stream_infer(requests()):
            assert error is None and result.as_numpy(y.name).tobytes() == expect[i : i + 1].tobytes()
            i += 1
        assert i == 3, i


asyncio.run(again())
print(f"tritonclient.grpc: all calls do what they should with `{model}`")
