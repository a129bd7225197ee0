#!/usr/bin/env python3
"""Runs every call of kserve's REST client that the protocol covers against a server.

kserve_rest.py HOST:PORT MODEL    (pip install kserve)

MODEL takes and gives one FP32 tensor of variable rows. Exits 0 if all calls did what they should.
"""
import asyncio
import json
import sys
import urllib.request

import httpx
import numpy as np
from kserve import InferInput, InferRequest, InferResponse, InferenceRESTClient
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput

address, model = sys.argv[1:]
url = f"http://{address}"
with urllib.request.urlopen(f"{url}/v2/models/{model}") as answer:
    metadata = json.load(answer)
x, y = metadata["inputs"][0], metadata["outputs"][0]
rows = 40
data = np.random.default_rng(7).random([rows, *x["shape"][1:]], dtype=np.float32)


def request(array, binary, outputs=None, parameters=None):
    tensor = InferInput(x["name"], list(array.shape), "FP32")
    tensor.set_data_from_numpy(array, binary_data=binary)
    return InferRequest(model, [tensor], request_id="seven", request_outputs=outputs, parameters=parameters)


def numbers(answer):
    assert isinstance(answer, InferResponse), answer
    assert answer.model_name == model and answer.id == "seven", answer
    output = answer.get_output_by_name(y["name"])
    assert output.datatype == "FP32" and list(output.shape)[0] > 0, output
    return np.asarray(output.as_numpy(), np.float32)


async def refused(call, status, word):
    try:
        await call
    except httpx.HTTPStatusError as e:
        assert e.response.status_code == status and word in str(e), e
        return
    raise AssertionError(f"{word}: it was not refused")


async def main():
    async with InferenceRESTClient(RESTConfig(protocol="v2", timeout=60)) as client:
        assert await client.is_server_live(url) and await client.is_server_ready(url)
        assert await client.is_model_ready(url, model)
        assert not await client.is_model_ready(url, "nothing")
        first = await client.infer(url, request(data, True), model_name=model)
        expect = numbers(first)
        assert expect.shape == (rows, *y["shape"][1:]) and np.isfinite(expect).all()
        for binary in [True, False]:
            for outputs, parameters in [
                (None, None),
                (None, {"binary_data_output": True}),
                ([RequestedOutput(y["name"], {"binary_data": True})], None),
                ([RequestedOutput(y["name"], {"binary_data": False})], None),
            ]:
                asked = request(data, binary, outputs, parameters)
                headers = {}
                got = await client.infer(url, asked, model_name=model, response_headers=headers)
                assert numbers(got).tobytes() == expect.tobytes(), (binary, outputs, parameters)
                assert headers["content-encoding"] in ["gzip", "deflate"], headers
        plain = {"inputs": [{"name": x["name"], "shape": list(data.shape), "datatype": "FP32", "data": data.tolist()}]}
        got = await client.infer(url, plain, model_name=model, headers={"accept-encoding": "identity"})
        assert got.get_output_by_name(y["name"]).as_numpy().astype(np.float32).tobytes() == expect.tobytes()
        parts = await asyncio.gather(*[
            client.infer(url, request(data[i : i + 1], i % 2 == 0), model_name=model) for i in range(rows)
        ])
        assert b"".join(numbers(part).tobytes() for part in parts) == expect.tobytes()
        await refused(client.infer(url, request(data, True), model_name="nothing"), 404, "nothing")
        await refused(client.infer(url, {"inputs": []}, model_name=model), 400, x["name"])


    # The first protocol: plain JSON.
    async with InferenceRESTClient(RESTConfig(protocol="v1", timeout=60)) as client:
        assert await client.is_server_live(url)
        assert await client.is_model_ready(url, model)
        got = await client.infer(url, {"instances": data.tolist()}, model_name=model)
        assert np.array(got["predictions"], np.float32).tobytes() == expect.tobytes()
        got = await client.infer(url, {"inputs": {x["name"]: data.tolist()}}, model_name=model)
        assert np.array(got["outputs"], np.float32).tobytes() == expect.tobytes()
        await refused(client.infer(url, {"instances": []}, model_name="nothing"), 404, "nothing")
        await refused(client.explain(url, model, {"instances": []}), 404, "explain")


asyncio.run(main())
print(f"kserve (REST): all calls do what they should with `{model}`")
