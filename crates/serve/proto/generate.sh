#!/usr/bin/env bash
# Makes the code (../src/grpc/messages.rs and service.rs) and the descriptor of inference.proto, by a program that is built for this and thrown away: so the
# product's own build needs neither a compiler of protocols nor the crates of one. (Needs Rust and crates.io.)
set -euo pipefail
here=$(dirname "$(realpath "$0")")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/src"
cat >"$work/Cargo.toml" <<'TOML'
[package]
name = "generate"
version = "0.0.0"
edition = "2024"
[dependencies]
prost = "=0.14.4"
protox = "=0.9.1"
tonic-prost-build = { version = "=0.14.6", default-features = false }
TOML
cat >"$work/src/main.rs" <<'RUST'
use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [proto, out] = [1, 2].map(|i| std::env::args().nth(i).unwrap());
    let found = protox::compile(["inference.proto"], [&proto])?;
    std::fs::write(format!("{proto}/descriptor.bin"), found.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".inference")
        .btree_map(".inference")
        .disable_comments(["."])
        .build_client(false)
        .out_dir(&out)
        .compile_fds(found)?;
    Ok(())
}
RUST
CARGO_TARGET_DIR="$work/target" cargo run --quiet --manifest-path "$work/Cargo.toml" -- "$here" "$work"
# part NAME WHAT FIRST LAST: these lines of the code as a file of their own.
part() {
  {
    echo "//! $2, made of proto/inference.proto by proto/generate.sh; not written by hand."
    echo
    if [ "$1" = service ]; then printf 'use super::messages::*;\n\n'; fi
    sed -n "$3,$4p" "$work/inference.rs"
  } >"$here/../src/grpc/$1.rs"
  rustfmt --edition 2024 --config-path "$here/../../../rustfmt.toml" "$here/../src/grpc/$1.rs"
}
half=$(grep -n '^/// Generated server implementations' "$work/inference.rs" | cut -d: -f1)
part messages "The messages of the protocol" 1 $((half - 1))
part service "The service of the protocol" "$half" '$'
