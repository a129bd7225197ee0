//! The `[cluster]` section of a manifest: how many workers share a run, and how they are connected. No bit of a result
//! depends on it, so it is no part of what a run is known by. Flags of the command line come before it.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::ValueEnum;
use outgrow_ir::{Diagnostic, Diagnostics};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cli::GroupArgs;

/// Workers that share each step: how many there are, and how they are connected. The result is that of one worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterSpec {
    /// How many workers there are on all machines, as many as `train.micro_shards` at most. When left out: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = 2)]
    pub workers: Option<NonZeroUsize>,
    /// How they are connected. When left out: threads, or with `listen`, tcp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport: Option<TransportName>,
    /// The address (`HOST:PORT`) at which the first worker waits for those of other machines, which `outgrow worker` starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = "10.0.0.1:7070")]
    pub listen: Option<String>,
    /// With `listen`: how many workers to start on the first machine, the first worker among them. When left out: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<NonZeroUsize>,
    /// Where the first worker writes what others need to join by tcp. When left out: beside the run's folder, with `.key` at
    /// its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Whether tcp is encrypted, and who may join shows a certificate. `false` is for networks that nobody else is on.
    #[serde(default = "yes")]
    pub tls: bool,
}

fn yes() -> bool {
    true
}

/// How workers are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TransportName {
    /// Threads of this process
    Threads,
    /// Processes of this machine, by shared memory
    Shm,
    /// Processes of any machines, over TCP with TLS
    Tcp,
}

/// The workers of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// How many there are.
    pub workers: usize,
    /// How many of them are on this machine.
    pub here: usize,
    /// How they are connected.
    pub transport: TransportName,
    /// Where the first one waits for others.
    pub listen: Option<String>,
    /// Where it writes what others need to join.
    pub key: Option<PathBuf>,
    /// Whether TCP is encrypted.
    pub tls: bool,
}

impl ClusterSpec {
    /// What the section asks for holds together by itself.
    pub fn validate(&self) -> Result<(), Diagnostics> {
        Cluster::resolve(self, &Names::KEYS).map(drop).map_err(Diagnostics::from)
    }

    /// The same with what flags say in its place. A transport that is given as a flag needs nothing of what is written for
    /// another one.
    fn with(&self, flags: &GroupArgs) -> Self {
        let tcp = flags.transport.is_none_or(|transport| transport == TransportName::Tcp);
        let own =
            if tcp { self.clone() } else { Self { workers: self.workers, tls: true, ..Self::default() } };
        Self {
            workers: flags.workers.or(own.workers),
            transport: flags.transport.or(own.transport),
            listen: flags.listen.clone().or(own.listen),
            local: flags.local.or(own.local),
            key: flags.key.clone().or(own.key),
            tls: own.tls && !flags.no_tls,
        }
    }
}

/// What things are called where they were asked for.
struct Names {
    workers: &'static str,
    transport: &'static str,
    listen: &'static str,
    local: &'static str,
    key: &'static str,
    tls: &'static str,
}

impl Names {
    const KEYS: Self = Self {
        workers: "cluster.workers",
        transport: "cluster.transport",
        listen: "cluster.listen",
        local: "cluster.local",
        key: "cluster.key",
        tls: "cluster.tls",
    };
    const FLAGS: Self = Self {
        workers: "--workers",
        transport: "--transport",
        listen: "--listen",
        local: "--local",
        key: "--key",
        tls: "--no-tls",
    };
}

impl Cluster {
    /// What flags and, where they say nothing, the manifest ask for.
    ///
    /// # Errors
    /// When something is asked for that is of no use to the rest.
    pub fn of(flags: &GroupArgs, spec: Option<&ClusterSpec>) -> Result<Self, Diagnostic> {
        let spec = spec.cloned().unwrap_or(ClusterSpec { tls: true, ..ClusterSpec::default() });
        let all = spec.with(flags);
        if all.workers.map_or(1, NonZeroUsize::get) == 1 && flags.listen.is_none() {
            return Ok(Self::alone());
        }
        Self::resolve(&all, &Names::FLAGS)
    }

    /// One worker.
    fn alone() -> Self {
        let transport = TransportName::Threads;
        Self { workers: 1, here: 1, transport, listen: None, key: None, tls: true }
    }

    fn resolve(spec: &ClusterSpec, names: &Names) -> Result<Self, Diagnostic> {
        let ClusterSpec { workers, transport, listen, local, key, tls } = spec.clone();
        let workers = workers.map_or(1, NonZeroUsize::get);
        if workers == 1 && listen.is_some() {
            let found = Diagnostic::new("cli.workers", "one worker waits for nobody").item(names.listen);
            return Err(
                found.expected(format!("`{}` with how many there are on all machines", names.workers))
            );
        }
        let usual = if listen.is_some() { TransportName::Tcp } else { TransportName::Threads };
        let transport = transport.unwrap_or(usual);
        let of_tcp = [(names.listen, listen.is_some()), (names.key, key.is_some()), (names.tls, !tls)];
        let useless = of_tcp.into_iter().find(|(_, given)| *given && transport != TransportName::Tcp);
        if let Some((name, _)) = useless {
            let found = Diagnostic::new("cli.transport", format!("`{name}` is for workers over TCP"));
            let hint = format!("take tcp as `{}`, or leave it out", names.transport);
            return Err(found.item(name).hint(hint));
        }
        let here = match (&listen, local) {
            (Some(_), local) => local.map_or(1, NonZeroUsize::get),
            // Without an address that others know, all are here.
            (None, None) => workers,
            (None, Some(_)) => {
                let found = Diagnostic::new("cli.local", format!("`{}` alone says nothing", names.local));
                return Err(found.item(names.local).hint(format!("add `{}`, or leave it out", names.listen)));
            }
        };
        if here > workers {
            let problem = format!("{here} of {workers} workers cannot be on this machine");
            let found = Diagnostic::new("cli.local", problem).item(names.local);
            return Err(found.expected(format!("at most `{}`", names.workers)));
        }
        Ok(Self { workers, here, transport, listen, key, tls })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> ClusterSpec {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn flags_come_before_the_manifest() {
        let lan = spec("workers = 3\nlisten = \"10.0.0.1:7070\"\nlocal = 2\ntls = false");
        assert!(lan.validate().is_ok());
        let of = |flags: GroupArgs| Cluster::of(&flags, Some(&lan));
        let all = of(GroupArgs::default()).unwrap();
        assert_eq!((all.workers, all.here, all.transport, all.tls), (3, 2, TransportName::Tcp, false));
        // Threads need no address.
        let threads =
            of(GroupArgs { transport: Some(TransportName::Threads), ..GroupArgs::default() }).unwrap();
        assert_eq!((threads.workers, threads.here, threads.listen), (3, 3, None));
        // Nor does one worker.
        let one = of(GroupArgs { workers: NonZeroUsize::new(1), ..GroupArgs::default() }).unwrap();
        assert_eq!(one, Cluster::alone());
        let five = of(GroupArgs { local: NonZeroUsize::new(5), ..GroupArgs::default() }).unwrap_err();
        assert!(five.to_string().contains("5 of 3 workers"), "{five}");
        assert_eq!(Cluster::of(&GroupArgs::default(), None), Ok(Cluster::alone()));
    }

    #[test]
    fn what_is_of_no_use_is_refused() {
        for (text, code, item) in [
            ("listen = \"a:1\"", "cli.workers", "cluster.listen"),
            ("workers = 2\nlisten = \"a:1\"\ntransport = \"shm\"", "cli.transport", "cluster.listen"),
            ("workers = 2\ntls = false", "cli.transport", "cluster.tls"),
            ("workers = 2\nlocal = 1", "cli.local", "cluster.local"),
            ("workers = 2\nlocal = 3\nlisten = \"a:1\"", "cli.local", "cluster.local"),
        ] {
            let found = spec(text).validate().unwrap_err().0.remove(0);
            assert_eq!((found.code, found.place.item.as_deref()), (code, Some(item)), "{text}");
        }
    }
}
