//! Where a server is.

use std::net::{SocketAddr, ToSocketAddrs};

use outgrow_ir::Diagnostic;

/// A server's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// The host and the port, as the URL has them.
    pub host: String,
    /// What stands before every path; empty, or with a / at its start.
    pub prefix: String,
}

impl Url {
    /// Reads `http://HOST:PORT`, which may leave out the scheme, the port (then 80) and go on with a path.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, Diagnostic> {
        let problem = |problem: String| Diagnostic::new("bench.url", problem).item("URL");
        let rest = match text.split_once("://") {
            Some(("http", rest)) => rest,
            Some((scheme, _)) => {
                let problem = problem(format!("servers are not asked by `{scheme}`"));
                return Err(problem.expected("a URL that begins with http://"));
            }
            None => text,
        };
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let plain = |c: char| c.is_ascii_graphic() && !"?#@\"".contains(c);
        if host.is_empty() || !rest.chars().all(plain) {
            return Err(problem(format!("`{text}` is no address of a server"))
                .expected("http://HOST:PORT, as http://127.0.0.1:8000"));
        }
        Ok(Self { host: host.to_owned(), prefix: path.trim_end_matches('/').to_owned() })
    }

    /// The address of its host.
    ///
    /// # Errors
    /// When there is no such host.
    pub fn address(&self) -> Result<SocketAddr, Diagnostic> {
        let has_port = self.host.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
        let host = if has_port { self.host.clone() } else { format!("{}:80", self.host) };
        let found = host.to_socket_addrs().map_err(|error| error.to_string());
        found.and_then(|mut all| all.next().ok_or_else(|| "it has no address".to_owned())).map_err(|error| {
            Diagnostic::new("bench.url", format!("`{}` is not found: {error}", self.host))
                .item("URL")
                .expected("a host that is known, and a port")
        })
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}{}", self.host, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_others_refused() {
        for (text, host, prefix) in [
            ("http://127.0.0.1:8000", "127.0.0.1:8000", ""),
            ("localhost:8000/", "localhost:8000", ""),
            ("http://[::1]/models/", "[::1]", "/models"),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!((url.host.as_str(), url.prefix.as_str()), (host, prefix));
        }
        for text in ["", "http://", "https://x", "/v2", "a b", "http://x/?q", "x\r\ny"] {
            assert_eq!(Url::parse(text).unwrap_err().code, "bench.url", "{text}");
        }
        let address = |text: &str| Url::parse(text).unwrap().address();
        assert_eq!(address("http://[::1]").unwrap(), "[::1]:80".parse().unwrap());
        assert_eq!(address("127.0.0.1:8000/a").unwrap(), "127.0.0.1:8000".parse().unwrap());
        assert_eq!(address("127.0.0.1:x").unwrap_err().code, "bench.url");
    }
}
