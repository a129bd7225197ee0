//! What two workers say to each other before they exchange data.

use super::super::frame::{Kind, frame};
use super::Token;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The version of all that goes over these links before the layer above can compare anything.
pub const VERSION: u16 = 1;

/// The most bytes with which a worker can describe itself.
pub const ABOUT_BYTES_MAX: usize = 60 << 10;

/// The most workers of a group: what they tell each other of themselves fits in one frame.
pub const WORKERS_MAX: usize = 1024;

/// Why somebody connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To join the group, at the first worker.
    Join {
        /// The number that it is to have.
        wanted: Option<u32>,
        /// Where others reach it.
        listens: SocketAddr,
        /// What it is.
        about: Vec<u8>,
    },
    /// To be linked with another one that has joined.
    Link {
        /// The number of who says this.
        from: u32,
        /// The number of who is meant.
        to: u32,
    },
}

/// Why a greeting is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stranger {
    /// Who said it does not know the token, or says nothing that makes sense.
    Unknown,
    /// Who said it knows the token, and speaks another version.
    Version(u16),
}

impl Purpose {
    /// The frame that begins a conversation.
    pub fn hello(&self, token: &Token) -> Vec<u8> {
        let mut content = VERSION.to_le_bytes().to_vec();
        content.extend(token.0);
        match self {
            Self::Join { wanted, listens, about } => {
                content.push(1);
                content.extend(wanted.unwrap_or(u32::MAX).to_le_bytes());
                put_address(&mut content, listens);
                content.extend(about);
            }
            Self::Link { from, to } => {
                content.push(2);
                content.extend(from.to_le_bytes());
                content.extend(to.to_le_bytes());
            }
        }
        frame(Kind::Hello, &content)
    }

    /// What the content of such a frame says.
    ///
    /// # Errors
    /// When it does not come from a worker of this group.
    pub fn of_hello(content: &[u8], token: &Token) -> Result<Self, Stranger> {
        let mut rest = Rest(content);
        let version = rest.array().map(u16::from_le_bytes).ok_or(Stranger::Unknown)?;
        if !rest.array().is_some_and(|shown| token.is(&shown)) {
            return Err(Stranger::Unknown);
        }
        if version != VERSION {
            return Err(Stranger::Version(version));
        }
        Self::read(&mut rest).filter(|_| rest.0.is_empty()).ok_or(Stranger::Unknown)
    }

    fn read(rest: &mut Rest) -> Option<Self> {
        match rest.array()? {
            [1] => {
                let wanted = Some(rest.number()?).filter(|wanted| *wanted != u32::MAX);
                let listens = rest.address()?;
                let about = Some(rest.all()).filter(|about| about.len() <= ABOUT_BYTES_MAX)?.to_vec();
                Some(Self::Join { wanted, listens, about })
            }
            [2] => Some(Self::Link { from: rest.number()?, to: rest.number()? }),
            _ => None,
        }
    }
}

/// What the first worker says to each of the others when all are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The number of who is told this.
    pub worker: u32,
    /// Where the others listen, from the second worker on.
    pub addresses: Vec<SocketAddr>,
    /// What the first worker is.
    pub about: Vec<u8>,
}

impl Welcome {
    /// The frame that says it.
    pub fn frame(&self) -> Vec<u8> {
        let mut content = self.worker.to_le_bytes().to_vec();
        content.extend((self.addresses.len() as u32).to_le_bytes());
        self.addresses.iter().for_each(|address| put_address(&mut content, address));
        content.extend(&self.about);
        frame(Kind::Welcome, &content)
    }

    /// What the content of such a frame says; nothing when it makes no sense.
    pub fn of_content(content: &[u8]) -> Option<Self> {
        let mut rest = Rest(content);
        let (worker, others) = (rest.number()?, rest.number()? as usize);
        if worker == 0 || worker as usize > others || others >= WORKERS_MAX {
            return None;
        }
        let addresses = (0..others).map(|_| rest.address()).collect::<Option<_>>()?;
        let about = Some(rest.all()).filter(|about| about.len() <= ABOUT_BYTES_MAX)?.to_vec();
        Some(Self { worker, addresses, about })
    }
}

/// The version of the protocol, the address in 4 or 16 bytes, and the port.
fn put_address(content: &mut Vec<u8>, address: &SocketAddr) {
    match address.ip() {
        IpAddr::V4(ip) => {
            content.push(4);
            content.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            content.push(6);
            content.extend(ip.octets());
        }
    }
    content.extend(address.port().to_le_bytes());
}

/// What is left to be read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn address(&mut self) -> Option<SocketAddr> {
        let ip = match self.array()? {
            [4] => IpAddr::from(Ipv4Addr::from(self.array::<4>()?)),
            [6] => IpAddr::from(Ipv6Addr::from(self.array::<16>()?)),
            _ => return None,
        };
        Some(SocketAddr::new(ip, self.array().map(u16::from_le_bytes)?))
    }

    fn all(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::frame::HEADER_BYTES;
    use super::*;

    #[test]
    fn what_is_said_is_understood_and_nothing_shorter_is() {
        let token = Token([7; 32]);
        let addresses = ["10.0.0.1:80", "[fe80::1]:65535"].map(|a| a.parse::<SocketAddr>().unwrap());
        let purposes = [
            Purpose::Join { wanted: Some(3), listens: addresses[0], about: b"a model".to_vec() },
            Purpose::Join { wanted: None, listens: addresses[1], about: Vec::new() },
            Purpose::Link { from: 1, to: 1000 },
        ];
        for purpose in purposes {
            let hello = purpose.hello(&token);
            let content = &hello[HEADER_BYTES..];
            assert_eq!(Purpose::of_hello(content, &token), Ok(purpose.clone()));
            assert_eq!(Purpose::of_hello(content, &Token([8; 32])), Err(Stranger::Unknown));
            let mut other = content.to_vec();
            other[0] = 9;
            assert_eq!(Purpose::of_hello(&other, &token), Err(Stranger::Version(9)));
            let needed = if let Purpose::Join { about, .. } = &purpose { about.len() } else { 0 };
            for length in 0..content.len() - needed {
                assert_eq!(Purpose::of_hello(&content[..length], &token), Err(Stranger::Unknown));
            }
        }
        let welcome = Welcome { worker: 2, addresses: addresses.to_vec(), about: b"x".to_vec() };
        let frame = welcome.frame();
        assert_eq!(Welcome::of_content(&frame[HEADER_BYTES..]), Some(welcome));
        for length in 0..frame.len() - HEADER_BYTES - 1 {
            assert_eq!(Welcome::of_content(&frame[HEADER_BYTES..][..length]), None);
        }
        for (worker, others) in [(0u32, 1u32), (2, 1), (1, u32::MAX)] {
            let content = [worker.to_le_bytes(), others.to_le_bytes()].concat();
            assert_eq!(Welcome::of_content(&[&content[..], &[0; 100]].concat()), None);
        }
    }
}
