#!/usr/bin/env python3
"""Runs every call of `tritonclient.http` (and of its asyncio form) that the protocol covers against a server.

tritonclient_http.py HOST:PORT MODEL    (pip install tritonclient[http])

MODEL takes and gives one FP32 tensor of variable rows. It is unloaded and loaded on the way. Exits 0 if all calls did
what they should; says which did not otherwise.
"""
import asyncio
import json
import struct
import sys
import urllib.request
import zlib

import numpy as np
import tritonclient.http as http
import tritonclient.http.aio as aio
from tritonclient.utils import InferenceServerException

address, model = sys.argv[1:]
client = http.InferenceServerClient(address, concurrency=4)


def refused(call, status, *words):
    """The call is refused with this status, in words that help."""
    try:
        call()
    except InferenceServerException as e:
        assert e.status() == str(status), (e.status(), e.message())
        assert all(word in e.message() for word in words), e.message()
        return
    raise AssertionError(f"{words}: it was not refused")


# The server and its models.
assert client.is_server_live() and client.is_server_ready()
server = client.get_server_metadata()
for extension in ["binary_tensor_data", "model_repository", "model_configuration", "statistics", "schedule_policy"]:
    assert extension in server["extensions"], server
assert client.is_model_ready(model) and not client.is_model_ready("nothing")
metadata = client.get_model_metadata(model)
version = metadata["versions"][-1]
assert client.is_model_ready(model, version) and not client.is_model_ready(model, "999")
assert client.get_model_metadata(model, version) == metadata
x, y = metadata["inputs"][0], metadata["outputs"][0]
assert x["datatype"] == y["datatype"] == "FP32" and x["shape"][0] == y["shape"][0] == -1, metadata
config = client.get_model_config(model)
assert config == client.get_model_config(model, version)
assert config["name"] == model and config["max_batch_size"] > 1, config
assert config["input"][0] == {"name": x["name"], "data_type": "TYPE_FP32", "dims": x["shape"][1:]}, config
refused(lambda: client.get_model_metadata("nothing"), 404, "nothing", model)
refused(lambda: client.get_model_config(model, "999"), 404, "999")

# Inference: binary and JSON both ways, packed or not, the whole answer or chosen outputs, with all parameters.
rows = 40
data = np.random.default_rng(7).random([rows, *x["shape"][1:]], dtype=np.float32)


def given(array, binary=True):
    tensor = http.InferInput(x["name"], list(array.shape), "FP32")
    tensor.set_data_from_numpy(array, binary_data=binary)
    return [tensor]


first = client.infer(model, given(data))
expect = first.as_numpy(y["name"])
assert expect.shape == (rows, *y["shape"][1:]) and np.isfinite(expect).all()
assert first.get_response()["model_name"] == model and first.get_response()["model_version"] == version
assert first.get_output(y["name"])["datatype"] == "FP32"
for binary_in in [True, False]:
    for outputs in [None, [http.InferRequestedOutput(y["name"])],
                    [http.InferRequestedOutput(y["name"], binary_data=False)]]:
        for packed_in in [None, "gzip", "deflate"]:
            for packed_out in [None, "gzip", "deflate"]:
                answer = client.infer(
                    model, given(data, binary_in), model_version=version, outputs=outputs, request_id="seven",
                    request_compression_algorithm=packed_in, response_compression_algorithm=packed_out,
                    priority=1, timeout=60_000_000, headers={"x-trace": "1"}, query_params={"a": 1},
                    sequence_id=0, parameters={"mine": "yes"},
                )
                got = answer.as_numpy(y["name"])
                assert got.tobytes() == expect.tobytes(), (binary_in, packed_in, packed_out)
                assert answer.get_response()["id"] == "seven"

# Bodies made and read by the client's own functions, sent by another.
body, length = http.InferenceServerClient.generate_request_body(given(data))
request = urllib.request.Request(f"http://{address}/v2/models/{model}/infer", body)
request.add_header("Inference-Header-Content-Length", str(length))
with urllib.request.urlopen(request) as answer:
    length = int(answer.headers["Inference-Header-Content-Length"])
    parsed = http.InferenceServerClient.parse_response_body(answer.read(), header_length=length)
assert parsed.as_numpy(y["name"]).tobytes() == expect.tobytes()
# Nothing but the tensor.
request = urllib.request.Request(f"http://{address}/v2/models/{model}/infer", data.tobytes())
request.add_header("Inference-Header-Content-Length", "0")
with urllib.request.urlopen(request) as answer:
    got = np.array(json.load(answer)["outputs"][0]["data"], np.float32)
assert got.tobytes() == expect.tobytes()

# Many at once.
waiting = [client.async_infer(model, given(data[i : i + 1])) for i in range(rows)]
for i, one in enumerate(waiting):
    assert one.get_result().as_numpy(y["name"]).tobytes() == expect[i : i + 1].tobytes()

# Raw records, where the model takes images: files as its transform reads them.
raw = model + ".raw"
if client.is_model_ready(raw) and len(x["shape"]) == 4:
    side = x["shape"][2:]
    pixels = np.random.default_rng(8).integers(0, 256, [5, 1, *side], dtype=np.uint8)

    def png(image):
        def part(name, body):
            return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        height, width = image.shape
        lines = b"".join(b"\0" + line.tobytes() for line in image)
        head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
        return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(lines)) + part(b"IEND", b"")

    assert client.get_model_metadata(raw)["inputs"] == [{"name": "raw", "datatype": "BYTES", "shape": [-1]}]
    assert client.get_model_config(raw)["input"] == [{"name": "raw", "data_type": "TYPE_STRING", "dims": []}]
    files = np.array([png(image[0]) for image in pixels], dtype=np.object_)
    tensor = http.InferInput("raw", [5], "BYTES").set_data_from_numpy(files)
    got = client.infer(raw, [tensor])
    typed = client.infer(model, given(pixels.astype(np.float32) / np.float32(255)))
    assert np.allclose(got.as_numpy(y["name"]), typed.as_numpy(y["name"]), atol=1e-4)
    assert got.get_response()["model_name"] == raw
    assert client.get_inference_statistics(raw)["model_stats"][0]["inference_count"] == 5
    wrong = http.InferInput("raw", [1], "BYTES").set_data_from_numpy(np.array([b"no image"], dtype=np.object_))
    refused(lambda: client.infer(raw, [wrong]), 400, "inputs[0].data[0]", "image")
    refused(lambda: client.infer(raw, given(data)), 400, "raw")

# What is wrong.
refused(lambda: client.infer("nothing", given(data)), 404, "nothing")
refused(lambda: client.infer(model, given(data), model_version="999"), 404, "999")
wrong = http.InferInput("wrong", list(data.shape), "FP32").set_data_from_numpy(data)
refused(lambda: client.infer(model, [wrong]), 400, "wrong", x["name"])
refused(lambda: client.infer(model, given(data), outputs=[http.InferRequestedOutput("wrong")]), 400, "wrong")
refused(lambda: client.infer(model, given(data), timeout=1), 503, "in time")
classes = [http.InferRequestedOutput(y["name"], class_count=3)]
refused(lambda: client.infer(model, given(data), outputs=classes), 400, "classification")
shared = http.InferRequestedOutput(y["name"])
shared.set_shared_memory("region", 4)
refused(lambda: client.infer(model, given(data), outputs=[shared]), 400, "shared")
# Extensions that are not served, and not said to be.
refused(client.get_trace_settings, 404)
refused(client.get_log_settings, 404)
refused(client.get_system_shared_memory_status, 404)

# Statistics.
stats = client.get_inference_statistics(model)["model_stats"][0]
assert client.get_inference_statistics(model, version)["model_stats"][0]["name"] == model
assert stats["name"] == model and stats["version"] == version, stats
assert stats["inference_stats"]["success"]["count"] >= 96 and stats["inference_stats"]["fail"]["count"] >= 3, stats
assert stats["inference_count"] >= 56 * rows and 0 < stats["execution_count"] <= stats["inference_count"], stats
assert stats["last_inference"] > 1_700_000_000_000 and stats["batch_stats"], stats
assert all(stats["inference_stats"][part]["ns"] > 0 for part in ["queue", "compute_infer", "success"]), stats
assert model in [one["name"] for one in client.get_inference_statistics()["model_stats"]]

# The repository.
index = client.get_model_repository_index()
assert {"name": model, "version": version, "state": "READY", "reason": ""} in index, index
client.unload_model(model)
assert not client.is_model_ready(model)
states = {one["name"]: one["state"] for one in client.get_model_repository_index()}
assert states[model] == "UNAVAILABLE", states
refused(lambda: client.infer(model, given(data)), 503, "unloaded")
client.load_model(model)
assert client.is_model_ready(model)
assert client.infer(model, given(data)).as_numpy(y["name"]).tobytes() == expect.tobytes()
client.load_model(model, config=json.dumps({"version_policy": {"specific": {"versions": [int(version)]}}}))
assert client.infer(model, given(data)).as_numpy(y["name"]).tobytes() == expect.tobytes()
refused(lambda: client.load_model("nothing"), 404, "nothing")
refused(lambda: client.unload_model("nothing"), 404, "nothing")
refused(lambda: client.load_model(model, config="{"), 400, "config")
refused(lambda: client.load_model(model, config="{}", files={"file:1/model.onnx": b"x"}), 400, "file:")
client.close()


async def again():
    """The same client for asyncio."""
    async with aio.InferenceServerClient(address) as client:
        assert await client.is_server_live() and await client.is_server_ready()
        assert await client.is_model_ready(model)
        assert (await client.get_server_metadata()) == server
        assert (await client.get_model_metadata(model)) == metadata
        assert (await client.get_model_config(model)) == config
        assert (await client.get_inference_statistics(model))["model_stats"]
        assert await client.get_model_repository_index()
        results = await asyncio.gather(*[
            client.infer(model, given(data[i : i + 2]), request_compression_algorithm=packed,
                         response_compression_algorithm=packed)
            for i, packed in [(0, None), (2, "gzip"), (4, "deflate")]
        ])
        got = b"".join(one.as_numpy(y["name"]).tobytes() for one in results)
        assert got == expect[:6].tobytes()
        await client.unload_model(model)
        assert not await client.is_model_ready(model)
        await client.load_model(model)
        assert await client.is_model_ready(model)


asyncio.run(again())
print(f"tritonclient.http: all calls do what they should with `{model}`")
