//! The Outgrow binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    outgrow::main()
}
