//! The first worker's port, at which the others join.

use super::arrivals::{Arrivals, Arrived, failed, refuse};
use super::link::Link;
use super::messages::{ABOUT_BYTES_MAX, Purpose, WORKERS_MAX, Welcome};
use super::{JoinError, Settings, TcpLinks};
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

/// Somebody who knows the token and wants to join.
#[derive(Clone, Copy, Debug)]
pub struct Newcomer<'a> {
    /// The number that it would have.
    pub worker: usize,
    /// Where it comes from.
    pub address: SocketAddr,
    /// What it says of itself.
    pub about: &'a [u8],
}

/// Where a group comes together: the first worker's end.
#[derive(Debug)]
pub struct Rendezvous {
    settings: Settings,
    arrivals: Arrivals,
    /// Who has joined, by number; the first worker's own place stays empty.
    joined: Vec<Option<Joined>>,
}

#[derive(Debug)]
struct Joined {
    link: Link,
    listens: SocketAddr,
}

impl Rendezvous {
    /// Listens for the others of a group of so many workers, of which this is the first. The address must be one at
    /// which all of them reach this machine, since they learn from their connection where they reach each other; its port
    /// may be 0, for any that is free.
    ///
    /// # Errors
    /// When the system does not allow it, or there can be no such group.
    pub fn listen(
        address: impl ToSocketAddrs,
        workers: usize,
        settings: Settings,
    ) -> Result<Self, JoinError> {
        if !(1..=WORKERS_MAX).contains(&workers) {
            return Err(JoinError::Workers { workers, max: WORKERS_MAX });
        }
        let address = super::resolve(address)?;
        let arrivals = Arrivals::listen(address).map_err(failed(format!("listen on {address}")))?;
        let joined = (0..workers).map(|_| None).collect();
        Ok(Self { settings, arrivals, joined })
    }

    /// Where the others find it.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> Result<SocketAddr, JoinError> {
        self.arrivals.address().map_err(failed("learn the port's number"))
    }

    /// The numbers of those that have not joined.
    pub fn missing(&self) -> Vec<usize> {
        (1..self.joined.len()).filter(|worker| self.joined[*worker].is_none()).collect()
    }

    /// Lets others join for so long, or until all are there: says whether they are. `accept` looks at what each says of
    /// itself; a text that it gives back is why that one cannot join, which is told to it, and its place stays free. So
    /// does the place of one that joins and leaves again.
    ///
    /// # Errors
    /// When the system gives up.
    pub fn wait(
        &mut self,
        at_most: Duration,
        accept: &mut dyn FnMut(&Newcomer<'_>) -> Result<(), String>,
    ) -> Result<bool, JoinError> {
        let until = Instant::now() + at_most;
        loop {
            for arrived in self.arrivals.arrived(&self.settings) {
                self.join(arrived, accept);
            }
            for place in &mut self.joined {
                // Who has joined says nothing before it is welcomed.
                if place.as_mut().is_some_and(|joined| !matches!(joined.link.heard(), Ok(None))) {
                    *place = None;
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            if self.missing().is_empty() || left.is_zero() {
                return Ok(self.missing().is_empty());
            }
            self.arrivals.wait(left).map_err(failed("wait for others to join"))?;
        }
    }

    fn join(&mut self, arrived: Arrived, accept: &mut dyn FnMut(&Newcomer<'_>) -> Result<(), String>) {
        let Arrived { link, address, purpose } = arrived;
        let Purpose::Join { wanted, listens, about } = purpose else {
            return;
        };
        let workers = self.joined.len();
        let place = match wanted.map(|wanted| wanted as usize) {
            Some(wanted) if !(1..workers).contains(&wanted) => Err(format!(
                "there is no worker {wanted} to be in a group of {workers}, whose first is here already"
            )),
            Some(wanted) if self.joined[wanted].is_some() => Err(format!("worker {wanted} is here already")),
            Some(wanted) => Ok(wanted),
            None => self.missing().first().copied().ok_or_else(|| format!("all {workers} workers are here")),
        };
        let accepted = place.and_then(|worker| {
            accept(&Newcomer { worker, address, about: &about })?;
            Ok(worker)
        });
        match accepted {
            Ok(worker) => self.joined[worker] = Some(Joined { link, listens }),
            Err(why) => refuse(link, &why),
        }
    }

    /// The links to all others, who are told what this worker is.
    ///
    /// # Errors
    /// When somebody is missing or has gone again, or `about` is longer than 60 KiB.
    pub fn finish(self, about: &[u8]) -> Result<TcpLinks, JoinError> {
        if about.len() > ABOUT_BYTES_MAX {
            return Err(JoinError::LongAbout { bytes: about.len(), max: ABOUT_BYTES_MAX });
        }
        if let Some(worker) = self.missing().first() {
            return Err(JoinError::Missing { worker: *worker });
        }
        let addresses: Vec<_> = self.joined.iter().flatten().map(|joined| joined.listens).collect();
        let mut links = Vec::with_capacity(self.joined.len());
        for (worker, joined) in self.joined.into_iter().enumerate() {
            let Some(Joined { mut link, .. }) = joined else {
                links.push(None);
                continue;
            };
            let welcome =
                Welcome { worker: worker as u32, addresses: addresses.clone(), about: about.to_vec() };
            self.arrivals.forget(&mut link).map_err(failed("prepare a link"))?;
            link.say(&welcome.frame()).map_err(|problem| JoinError::lost(worker, problem))?;
            links.push(Some(link));
        }
        let mut links = TcpLinks::new(0, links)?;
        links.flush_within(self.settings.handshake)?;
        Ok(links)
    }
}
