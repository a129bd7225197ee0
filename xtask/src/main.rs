//! Developer tasks, run as `cargo xtask TASK`.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a command-line program

use std::process::ExitCode;

fn main() -> anyhow::Result<ExitCode> {
    let task = std::env::args().nth(1).unwrap_or_default();
    if task != "tidy" {
        eprintln!("usage: cargo xtask tidy    check the rules that compilers do not");
        return Ok(ExitCode::from(2));
    }
    let violations = xtask::tidy::check(&xtask::root())?;
    for violation in &violations {
        println!("{violation}");
    }
    match violations.len() {
        0 => Ok(ExitCode::SUCCESS),
        n => {
            println!("{n} rules broken");
            Ok(ExitCode::FAILURE)
        }
    }
}
