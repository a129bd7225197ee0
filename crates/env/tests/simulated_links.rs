//! What only a simulated network shows: cut links, vanished machines, and the same run again under the same seed. What all
//! transports have in common is in `transports.rs`.

use outgrow_env::transport::sim::{Conditions, SimLinks, SimNetwork};
use outgrow_env::{LinkError, LinkProblem, Transport};
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

/// Two workers, driven by one thread, of which the first sends so many bytes to the second: when all have come, or what
/// each found instead.
fn stream(
    network: &SimNetwork,
    ends: &mut [SimLinks],
    bytes: usize,
) -> Result<Duration, Vec<Option<LinkError>>> {
    let (mut sent, mut came) = (0, 0);
    let mut found: Vec<Option<LinkError>> = vec![None; 2];
    let block = vec![5; 1 << 16];
    for _ in 0..1_000_000 {
        if found[0].is_none() && sent < bytes {
            match ends[0].send(1, &block[..block.len().min(bytes - sent)]) {
                Ok(count) => sent += count,
                Err(error) => found[0] = Some(error),
            }
        }
        if found[0].is_none() {
            found[0] = ends[0].received(1).map(|_| ()).err();
        }
        if found[1].is_none() {
            match ends[1].received(0).map(<[u8]>::len) {
                Ok(count) => {
                    came += count;
                    ends[1].take(0, count);
                }
                Err(error) => found[1] = Some(error),
            }
        }
        if came == bytes {
            return Ok(network.now());
        }
        if found.iter().all(Option::is_some) {
            return Err(found);
        }
        assert!(network.advance());
    }
    panic!("{came} of {bytes} bytes came, {sent} were sent: {found:?}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let bad = Conditions { loss: 0.1, duplication: 0.1, delay: 0.2, ..Conditions::default() };
        let (network, mut ends) = SimNetwork::new(2, seed, bad);
        (stream(&network, &mut ends, 300_000).unwrap(), network.packets())
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
    let (_, (packets, lost)) = run(1);
    assert!(lost > packets / 20 && lost < packets / 5, "{lost} of {packets} packets are lost");
}

#[test]
fn time_is_what_latency_and_bandwidth_make_it() {
    let conditions = Conditions {
        latency: (MS, MS),
        bytes_per_s: 1_000_000,
        window: 1 << 20,
        segment: 1 << 14,
        ..Conditions::default()
    };
    let (network, mut ends) = SimNetwork::new(2, 3, conditions);
    // A millisecond under way, and one for each thousand bytes and their headers.
    let took = stream(&network, &mut ends, 50_000).unwrap();
    assert!((51 * MS..53 * MS).contains(&took), "{took:?}");
}

#[test]
fn a_cut_that_heals_delays_and_one_that_does_not_is_noticed() {
    let cut = |lasting| {
        let (network, mut ends) = SimNetwork::new(2, 4, Conditions::default());
        network.partition(MS, lasting, &[0]);
        stream(&network, &mut ends, 10_000_000)
    };
    let took = cut(Some(3000 * MS)).unwrap();
    assert!((3001 * MS..6000 * MS).contains(&took), "{took:?}");
    let silent = |worker| Some(LinkError { worker, problem: LinkProblem::Silent(Duration::from_secs(10)) });
    assert_eq!(cut(None).unwrap_err(), [silent(1), silent(0)]);
}

#[test]
fn a_killed_process_is_gone_and_a_vanished_machine_silent() {
    let ended = |end: fn(&SimNetwork)| {
        let (network, mut ends) = SimNetwork::new(2, 5, Conditions::default());
        end(&network);
        let found = stream(&network, &mut ends, 10_000_000).unwrap_err();
        assert!(!network.is_here(1) && network.is_here(0));
        let itself = "worker 1 cannot be reached: it has ended itself";
        assert_eq!(found[1].as_ref().unwrap().to_string(), itself);
        (found[0].clone().unwrap().problem, network.now())
    };
    let (problem, at) = ended(|network| network.kill_at(1, 2 * MS));
    assert_eq!(problem, LinkProblem::Gone);
    assert!(at < 4 * MS, "{at:?}");
    let (problem, at) = ended(|network| network.vanish_at(1, 2 * MS));
    assert_eq!(problem, LinkProblem::Silent(Duration::from_secs(10)));
    assert!((10_000 * MS..11_000 * MS).contains(&at), "{at:?}");
}
