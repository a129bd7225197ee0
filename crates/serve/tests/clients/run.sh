#!/usr/bin/env bash
# The official clients of the Open Inference Protocol against a server, and requests by its own description, each in a Python environment of its own.
# run.sh BINARY         over HTTP (needs Python and PyPI; says that it skips without)
# run.sh --grpc BINARY  over gRPC, by a build with the feature grpc
set -euo pipefail
grpc=
if [ "$1" = --grpc ]; then
  grpc=1
  shift
fi
binary=$(realpath "$1")
here=$(dirname "$(realpath "$0")")
work=$(mktemp -d)
trap 'kill "${server:-}" 2>/dev/null || true; rm -rf "$work"' EXIT

cat >"$work/model.toml" <<'TOML'
name = "glyphs"
[data]
source = "synthetic:glyphs"
samples = 200
test = { samples = 20 }
[model]
layers = [{ conv = 4, kernel = 3 }, { flatten = true }, { dense = 10, activation = "softmax" }]
[train]
epochs = 1
batch = 20
lr = 0.01
TOML
"$binary" train "$work/model.toml" --out "$work/run" --cache "$work/cache" --quiet >/dev/null
mkfifo "$work/said"
"$binary" serve "$work/run" --http 127.0.0.1:0 ${grpc:+--grpc 127.0.0.1:0} --json --quiet >"$work/said" &
server=$!
said=$(head -n 1 "$work/said")
address=$(sed -n 's|.*"http":"http://\([^"]*\)".*|\1|p' <<<"$said")
if [ -n "$grpc" ]; then address=$(sed -n 's|.*"grpc":"\([^"]*\)".*|\1|p' <<<"$said"); fi
test -n "$address"

# check SCRIPT PACKAGE…: what the script needs is installed beside nothing else. It is given the address and the model.
check() {
  local script=$1 env="$work/env-$1"
  shift
  if python3 -m venv "$env" && "$env/bin/pip" install -q "$@"; then
    "$env/bin/python" "$here/$script" "${given[@]}"
  else
    echo "$script skipped: $* could not be installed"
  fi
}
given=("$address" glyphs)
if [ -n "$grpc" ]; then
  check tritonclient_grpc.py 'tritonclient[grpc]==2.73.0' grpcio-health-checking grpcio-reflection
  given=("$binary" "$work/run")
  check guarded_grpc.py 'tritonclient[grpc]==2.73.0' grpcio-health-checking grpcio-reflection trustme==1.2.1
else
  check tritonclient_http.py 'tritonclient[http]==2.73.0'
  check kserve_rest.py 'kserve==0.21.0'
  check openapi_check.py schemathesis==4.32.5
fi
