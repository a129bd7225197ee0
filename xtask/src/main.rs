//! Developer tasks, run as `cargo xtask TASK`.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a command-line program

use std::process::ExitCode;

fn main() -> anyhow::Result<ExitCode> {
    let task = std::env::args().nth(1).unwrap_or_default();
    let violations = match task.as_str() {
        "tidy" => xtask::tidy::check(&xtask::root())?,
        "deny" => xtask::deny::check(&xtask::root())?,
        _ => {
            eprintln!("usage: cargo xtask tidy    check the rules that compilers do not");
            eprintln!("       cargo xtask deny    check all dependencies by the rules of deny.toml");
            return Ok(ExitCode::from(2));
        }
    };
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
