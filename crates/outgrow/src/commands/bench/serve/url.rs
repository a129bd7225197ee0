//! Where a server is, and what everything that is sent to it begins with.

use std::net::{SocketAddr, ToSocketAddrs};

use outgrow_ir::Diagnostic;

/// A server's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// The host and the port, as the URL has them.
    pub host: String,
    /// What stands before every path; empty, or with a / at its start.
    pub prefix: String,
    /// Whether everything is encrypted.
    pub is_encrypted: bool,
    /// The token that is sent with every request.
    pub token: Option<String>,
}

impl Url {
    /// Reads `http://HOST:PORT` or `https://HOST:PORT`, which may leave out the scheme (then http), the port (80 or 443)
    /// and go on with a path.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, Diagnostic> {
        let problem = |problem: String| Diagnostic::new("bench.url", problem).item("URL");
        let (is_encrypted, rest) = match text.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some((scheme, _)) => {
                let problem = problem(format!("servers are not asked by `{scheme}`"));
                return Err(problem.expected("a URL that begins with http:// or https://"));
            }
            None => (false, text),
        };
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let plain = |c: char| c.is_ascii_graphic() && !"?#@\"".contains(c);
        if host.is_empty() || !rest.chars().all(plain) {
            return Err(problem(format!("`{text}` is no address of a server"))
                .expected("http://HOST:PORT, as http://127.0.0.1:8000"));
        }
        let prefix = path.trim_end_matches('/').to_owned();
        Ok(Self { host: host.to_owned(), prefix, is_encrypted, token: None })
    }

    fn has_port(&self) -> bool {
        self.host.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'))
    }

    /// The host's name, as its certificate has it.
    pub fn name(&self) -> &str {
        let name = match self.host.rsplit_once(':') {
            Some((name, _)) if self.has_port() => name,
            _ => &self.host,
        };
        name.trim_start_matches('[').trim_end_matches(']')
    }

    /// The header lines that every request has.
    pub fn lines(&self) -> String {
        let token = self.token.as_ref().map(|token| format!("Authorization: Bearer {token}\r\n"));
        format!("Host: {}\r\n{}", self.host, token.unwrap_or_default())
    }

    /// The address of its host.
    ///
    /// # Errors
    /// When there is no such host.
    pub fn address(&self) -> Result<SocketAddr, Diagnostic> {
        let port = if self.is_encrypted { 443 } else { 80 };
        let host = if self.has_port() { self.host.clone() } else { format!("{}:{port}", self.host) };
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
        let scheme = if self.is_encrypted { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.host, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_others_refused() {
        for (text, host, name, prefix) in [
            ("http://127.0.0.1:8000", "127.0.0.1:8000", "127.0.0.1", ""),
            ("localhost:8000/", "localhost:8000", "localhost", ""),
            ("http://[::1]/models/", "[::1]", "::1", "/models"),
            ("https://[::1]:8443", "[::1]:8443", "::1", ""),
            ("https://x", "x", "x", ""),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!((url.host.as_str(), url.name(), url.prefix.as_str()), (host, name, prefix));
            assert_eq!(url.is_encrypted, text.starts_with("https"));
        }
        for text in ["", "http://", "ftp://x", "/v2", "a b", "http://x/?q", "x\r\ny"] {
            assert_eq!(Url::parse(text).unwrap_err().code, "bench.url", "{text}");
        }
        let address = |text: &str| Url::parse(text).unwrap().address();
        assert_eq!(address("http://[::1]").unwrap(), "[::1]:80".parse().unwrap());
        assert_eq!(address("https://[::1]").unwrap(), "[::1]:443".parse().unwrap());
        assert_eq!(address("127.0.0.1:8000/a").unwrap(), "127.0.0.1:8000".parse().unwrap());
        assert_eq!(address("127.0.0.1:x").unwrap_err().code, "bench.url");
    }
}
