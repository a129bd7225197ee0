//! Sums over TCP between four hosts have the right bits, whatever lies between them. Each host is a network namespace;
//! where the system does not let a test make any, it says so and skips.
#![cfg(target_os = "linux")]

mod hosts;

use hosts::{Job, Network, Path, Setting};
use std::time::Duration;

#[test]
#[allow(clippy::print_stdout)]
fn sums_between_four_hosts_have_the_right_bits() {
    if hosts::act() {
        return;
    }
    if let Some(why) = hosts::missing() {
        println!("skipped: {why}");
        return;
    }
    let job = Job { sizes: vec![4, 4 << 10, 1 << 20], rounds: 0 };
    let ms = Duration::from_millis;
    for (bits_per_s, path) in [
        (100_000_000, Path::Bridge),
        (1_000_000_000, Path::Bridge),
        (1_000_000_000, Path::Relay { delay: ms(1), loss: 0.0 }),
        (1_000_000_000, Path::Relay { delay: ms(10), loss: 0.0 }),
        (1_000_000_000, Path::Relay { delay: ms(1), loss: 0.01 }),
    ] {
        let arguments = ["--exact", "sums_between_four_hosts_have_the_right_bits", "--nocapture"];
        let setting = Setting { bits_per_s, path };
        assert!(Network::new(setting, &arguments).run(&job).is_empty());
        println!("{}: right", setting.name());
    }
}
