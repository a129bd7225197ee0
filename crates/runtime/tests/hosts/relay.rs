//! Passes packets on between TUN devices, after a while or never.

use outgrow_tensor::{RngKey, RngStream};
use std::io::Read;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};
use tun_rs::{DeviceBuilder, SyncDevice};

use super::{HOSTS, MTU_MAX};

/// What it says when the devices are there.
pub const READY: &str = "the devices are there";

/// Packets on their way to a host: more than fit into any delay at any bandwidth here.
const ON_THE_WAY: usize = 8192;

type Packet = (Instant, Vec<u8>);

/// Runs until its stdin ends. The setting is the delay in nanoseconds and the fraction of packets that are lost.
#[allow(clippy::print_stdout)]
pub fn run(setting: &str) {
    let (delay, loss) = setting.split_once(' ').expect("a delay and a loss");
    let delay = Duration::from_nanos(delay.parse().expect("nanoseconds"));
    let loss: f64 = loss.parse().expect("a fraction");
    let device = |i: usize| {
        let builder = DeviceBuilder::new().name(format!("tun{i}")).mtu(MTU_MAX as u16).enable(false);
        Arc::new(builder.build_sync().expect("a TUN device"))
    };
    let devices: Vec<Arc<SyncDevice>> = (0..HOSTS).map(device).collect();
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..HOSTS).map(|_| sync_channel(ON_THE_WAY)).unzip();
    for (i, (device, packets)) in devices.iter().zip(receivers).enumerate() {
        let (out, into) = (Arc::clone(device), Arc::clone(device));
        let senders: Vec<SyncSender<Packet>> = senders.clone();
        let random = RngKey::new(i as u64).stream();
        thread::spawn(move || take(&into, &senders, delay, loss, random));
        thread::spawn(move || pass_on(&out, &packets));
    }
    println!("{READY}");
    // Whoever has started it holds the other end.
    let _ = std::io::stdin().read(&mut [0]);
    std::process::exit(0);
}

/// Takes packets from a host, for the others.
fn take(
    device: &SyncDevice,
    senders: &[SyncSender<Packet>],
    delay: Duration,
    loss: f64,
    mut random: RngStream,
) {
    let mut buffer = vec![0; MTU_MAX];
    loop {
        let Ok(bytes) = device.recv(&mut buffer) else {
            // Until it is where it belongs, and up.
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        let packet = &buffer[..bytes];
        // The last byte of the address that an IPv4 packet goes to says which host that is.
        let to =
            if bytes >= 20 && packet[0] >> 4 == 4 { usize::from(packet[19]).wrapping_sub(1) } else { HOSTS };
        let Some(sender) = senders.get(to) else { continue };
        if random.uniform() >= loss {
            // One for which there is no room is lost, as in any network.
            let _ = sender.try_send((Instant::now() + delay, packet.to_vec()));
        }
    }
}

/// Gives a host what has come for it, each packet at its time.
fn pass_on(device: &SyncDevice, packets: &Receiver<Packet>) {
    while let Ok((due, packet)) = packets.recv() {
        let left = due.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            thread::sleep(left);
        }
        // A host that has gone takes nothing.
        let _ = device.send(&packet);
    }
}
