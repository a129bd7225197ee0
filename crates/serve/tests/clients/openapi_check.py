#!/usr/bin/env python3
"""A server against its own description: `schemathesis` asks by it what it can think of, and what good requests are
answered is as the description says.

openapi_check.py HOST:PORT MODEL    (pip install schemathesis)

MODEL takes and gives one FP32 tensor of variable rows, and was trained on images. Exits 0 if every answer is one that the
description has, and none a fault of the server.
"""
import json
import os
import subprocess
import sys
import tempfile
import urllib.request

import jsonschema_rs

address, model = sys.argv[1:]
here = os.path.dirname(os.path.abspath(__file__))


def ask(path, body=None):
    """The answer of status 200."""
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(f"http://{address}{path}", data), timeout=60) as answer:
        return json.load(answer)


document = ask("/openapi.json")


def fits(value, schema):
    """The value is as the description has it."""
    jsonschema_rs.validate({**schema, "components": document["components"]}, value)


def check(path, template, body=None):
    """What is asked at a path, and what comes of it, is what its description says."""
    operation = document["paths"][template]["get" if body is None else "post"]
    schema = lambda of: of["content"]["application/json"]["schema"]
    if body is not None:
        fits(body, schema(operation["requestBody"]))
    answer = ask(path, body)
    fits(answer, schema(operation["responses"]["200"]))
    return answer


for name in (model, f"{model}.raw"):
    for version in ("", "/versions/1"):
        template = "/v2/models/{model}" + ("/versions/{version}" if version else "")
        for rest in ("", "/ready", "/config", "/stats"):
            check(f"/v2/models/{name}{version}{rest}", template + rest)
for path in ("/", "/openapi.json", "/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/stats"):
    check(path, path)
check(f"/v1/models/{model}", "/v1/models/{call}")
check("/v2/repository/index", "/v2/repository/index", {"ready": True})
x = ask(f"/v2/models/{model}")["inputs"][0]
shape = [2 if n < 0 else n for n in x["shape"]]
size = 1
for n in shape:
    size *= n
request = {
    "id": "a",
    "parameters": {"priority": 1, "timeout": 60_000_000},
    "inputs": [{"name": x["name"], "shape": shape, "datatype": x["datatype"], "data": [0.5] * size}],
}
answer = check(f"/v2/models/{model}/infer", "/v2/models/{model}/infer", request)
assert answer["outputs"][0]["shape"][0] == 2, answer
check(f"/v2/models/{model}/versions/1/infer", "/v2/models/{model}/versions/{version}/infer", request)
nested = [0.5] * shape[-1]
for n in reversed(shape[1:-1]):
    nested = [nested] * n
check(f"/v1/models/{model}:predict", "/v1/models/{call}", {"instances": [nested]})
check(f"/v1/models/{model}/versions/1:predict", "/v1/models/{model}/versions/{call}", {"inputs": [nested]})
for what in ("load", "unload", "load"):
    check(f"/v2/repository/models/{model}/{what}", "/v2/repository/models/{model}/" + what, {})

with open(f"{here}/schemathesis.toml") as file:
    common = file.read()
# For any names, and for those of what is there; there, the model stays.
there = f"""
[parameters]
"path.model" = "{model}"
"path.version" = "1"
"path.call" = "{model}:predict"

[[operations]]
include-path = "/v1/models/{{model}}/versions/{{call}}"
parameters = {{ "path.call" = "1:predict" }}

[[operations]]
include-path = "/v1/models/{{call}}"
include-method = "GET"
parameters = {{ "path.call" = "{model}" }}

[[operations]]
include-path = "/v2/repository/models/{{model}}/unload"
enabled = false
"""
with tempfile.TemporaryDirectory() as work:
    for rest in ("", there):
        with open(f"{work}/schemathesis.toml", "w") as file:
            file.write(common + rest)
        command = [f"{os.path.dirname(sys.executable)}/schemathesis", "--config-file", f"{work}/schemathesis.toml"]
        command += ["run", f"http://{address}/openapi.json", "--phases", "coverage,fuzzing", "--warnings", "off"]
        done = subprocess.run(command, cwd=work, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stdout + done.stderr)
        print("schemathesis:", *[line.strip() for line in done.stdout.splitlines() if "generated," in line])
assert ask("/v2/health/ready") == {"ready": True} and ask(f"/v2/models/{model}/ready")["ready"]
print(f"every answer was one that the description has, of `{model}` and of what is not there")
