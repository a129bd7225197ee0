//! Hosts on one machine, each a network namespace: what workers do over real TCP when the network is slow, far away or
//! loses packets. Bandwidth is `tc`'s, at a bridge; delay and loss are those of a relay between TUN devices, since few
//! kernels of virtual machines have `netem`.
//!
//! A program that uses this calls [`act`] first: it is started again for each host and for the relay. A namespace lives as
//! long as a process in it, which ends with the program: nothing is left behind, however that ends.
// Each program compiles this module for itself and uses a part of it.
#![allow(dead_code)]

mod relay;
mod worker;

pub use worker::{Finding, Job};

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

/// How many hosts there are.
pub const HOSTS: usize = 4;
/// With this the program is started again: what it is to be.
const ROLE: &str = "OUTGROW_TEST_HOST";

/// What lies between two hosts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Setting {
    /// Bits per second that leave a host.
    pub bits_per_s: u64,
    /// What carries them.
    pub path: Path,
}

/// What carries packets from host to host.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Path {
    /// A cable from each to a bridge.
    Bridge,
    /// A relay that passes each packet on after a while, or not at all.
    Relay {
        /// After which time.
        delay: Duration,
        /// How many of them, of 1, are lost.
        loss: f64,
    },
}

impl Setting {
    /// Bytes of a packet, about as many as may go at once where a host has been silent: much less than a message, which
    /// would seem to be sent faster than the link allows, and many enough that the relay keeps up.
    fn packet(&self) -> usize {
        (self.bits_per_s as usize / 62_500).clamp(3_000, MTU_MAX)
    }

    /// What it is, for people.
    pub fn name(&self) -> String {
        let rate = format!("{} Mbit/s", self.bits_per_s / 1_000_000);
        match self.path {
            Path::Bridge => rate,
            Path::Relay { delay, loss: 0.0 } => format!("{rate}, {delay:?}"),
            Path::Relay { delay, loss } => format!("{rate}, {delay:?}, {}% lost", loss * 100.0),
        }
    }
}

/// Does what this process was started for, if it is a host's or the relay; says whether it was.
pub fn act() -> bool {
    let Ok(role) = std::env::var(ROLE) else { return false };
    match role.split_once(' ') {
        Some(("relay", setting)) => relay::run(setting),
        Some(("worker", job)) => worker::run(job),
        _ => panic!("{ROLE}={role}"),
    }
    true
}

/// Why this system has no hosts, if it has none.
pub fn missing() -> Option<String> {
    for tool in [["unshare", "--version"], ["nsenter", "--version"], ["ip", "-V"], ["tc", "-V"]] {
        let [program, flag] = tool;
        if !Command::new(program).arg(flag).output().is_ok_and(|output| output.status.success()) {
            return Some(format!("`{program}` is not there"));
        }
    }
    let tried = Command::new("unshare").args(["-n", "ip", "link", "add", "type", "bridge"]).output();
    if !tried.is_ok_and(|output| output.status.success()) {
        return Some("this process may not make networks: it is not root, or in a container".to_owned());
    }
    if std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun").is_err() {
        return Some("there is no /dev/net/tun".to_owned());
    }
    None
}

/// A network namespace, as long as this is kept.
struct Namespace {
    keeper: Child,
    /// The keeper reads from it until it ends, which it does with this process.
    _life: Option<ChildStdin>,
}

impl Namespace {
    fn new() -> Self {
        let mut command = Command::new("unshare");
        // It writes a line when it is in its namespace.
        command.args(["-n", "sh", "-c", "echo in; exec cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut keeper = command.spawn().expect("a namespace");
        let mut line = String::new();
        BufReader::new(keeper.stdout.as_mut().expect("a pipe")).read_line(&mut line).expect("a line");
        assert_eq!(line, "in\n", "a namespace");
        let _life = keeper.stdin.take();
        Self { keeper, _life }
    }

    fn process(&self) -> u32 {
        self.keeper.id()
    }

    /// A program in it.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.process())).arg(program);
        command
    }

    /// Runs commands in it, which must succeed.
    fn run(&self, script: &str) {
        let output = self.command("sh").args(["-e", "-c", script]).output().expect("a shell");
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// This program in it, in some role.
    fn again(&self, role: &str, arguments: &[&str]) -> Command {
        let program = std::env::current_exe().expect("this program");
        let mut command = self.command(&program.to_string_lossy());
        command.args(arguments).env(ROLE, role).stdin(Stdio::piped());
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// A process that is ended when this is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Hosts that reach each other.
pub struct Network {
    setting: Setting,
    // The relay ends before the namespaces do.
    _relay: Option<Process>,
    hosts: Vec<Namespace>,
    _switch: Namespace,
    /// How this program is told to call [`act`].
    arguments: Vec<String>,
}

/// The largest packet between TUN devices, for which the relay takes as long as for a small one.
const MTU_MAX: usize = 16_000;
/// Bytes that may queue at a host: nothing is lost for want of room.
const QUEUE: usize = 32 << 20;

impl Network {
    /// Hosts with this between them. The arguments are those with which this program calls [`act`].
    pub fn new(setting: Setting, arguments: &[&str]) -> Self {
        let switch = Namespace::new();
        let hosts: Vec<Namespace> = (0..HOSTS).map(|_| Namespace::new()).collect();
        let relay = match setting.path {
            Path::Bridge => {
                switch.run("ip link add br0 type bridge && ip link set br0 up");
                None
            }
            Path::Relay { delay, loss } => {
                let role = format!("relay {} {loss}", delay.as_nanos());
                Some(Process(start_relay(&switch, &role, arguments)))
            }
        };
        let packet = setting.packet();
        let (rate, burst) = (setting.bits_per_s, packet + packet / 4);
        let shape = format!("root tbf rate {rate}bit burst {burst} limit {QUEUE}");
        for (i, host) in hosts.iter().enumerate() {
            let process = host.process();
            let device = if relay.is_some() { format!("tun{i}") } else { format!("eth{i}") };
            if relay.is_some() {
                switch.run(&format!("ip link set {device} netns {process}"));
            } else {
                switch.run(&format!(
                    "ip link add port{i} type veth peer name {device} netns {process}
                     ip link set port{i} master br0 up"
                ));
            }
            // What the system hands over at once would be cut if it were longer than the burst, which takes a core.
            let sizes = if relay.is_some() { "mtu" } else { "gso_max_size" };
            host.run(&format!(
                "ip link set lo up
                 ip addr add {}/24 dev {device}
                 ip link set {device} {sizes} {packet} up
                 tc qdisc add dev {device} {shape}
                 sysctl -qw net.ipv4.tcp_slow_start_after_idle=0 net.ipv4.tcp_no_metrics_save=1
                 sysctl -qw net.ipv4.tcp_rmem='4096 1000000 33554432' net.ipv4.tcp_wmem='4096 1000000 33554432'",
                address(i)
            ));
        }
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Self { setting, _relay: relay, hosts, _switch: switch, arguments }
    }

    /// Has a worker on each host do a job, and gives what the first one finds.
    pub fn run(&self, job: &Job) -> Vec<Finding> {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        let mut workers: Vec<Process> = Vec::new();
        for (i, host) in self.hosts.iter().enumerate() {
            let mut command =
                host.again(&format!("worker {}", job.for_worker(i, self.setting.bits_per_s)), &arguments);
            let output = if i == 0 { Stdio::piped() } else { Stdio::null() };
            workers.push(Process(command.stdout(output).spawn().expect("a worker")));
        }
        let mut text = String::new();
        let mut output = workers[0].0.stdout.take().expect("a pipe");
        output.read_to_string(&mut text).expect("what the first worker finds");
        for (i, worker) in workers.iter_mut().enumerate() {
            let end = worker.0.wait().expect("its end");
            assert!(end.success(), "{}: worker {i}: {end}\n{text}", self.setting.name());
        }
        text.lines().filter_map(Finding::of_line).collect()
    }
}

/// The address of a host.
fn address(host: usize) -> String {
    format!("10.77.0.{}", host + 1)
}

fn start_relay(switch: &Namespace, role: &str, arguments: &[&str]) -> Child {
    let mut relay = switch.again(role, arguments).stdout(Stdio::piped()).spawn().expect("the relay");
    let mut lines = BufReader::new(relay.stdout.take().expect("a pipe")).lines();
    // A test's own lines may come before it.
    let ready = lines.any(|line| line.is_ok_and(|line| line.ends_with(relay::READY)));
    assert!(ready, "the relay has its devices");
    relay
}
