//! Why a request gets no answer: the kind, from which HTTP and gRPC take their status, and what is wrong where.

use std::time::Duration;

use outgrow_ir::{Diagnostic, Diagnostics};

/// What kind of refusal it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request is wrong.
    Invalid,
    /// There is no such thing.
    NotFound,
    /// Nobody who is known asks: there is no token.
    NoToken,
    /// Nor by this token.
    WrongToken,
    /// Whoever asks may do other things, but lacks this scope.
    Forbidden(&'static str),
    /// Whoever asks has asked too often: another try is of use after this time.
    TooOften(Duration),
    /// The path is there, but not for this method.
    Method,
    /// The request took too long to come.
    Slow,
    /// The request is too large.
    TooLarge,
    /// The body is packed in a way that the server does not know.
    Coding,
    /// The server does not do that.
    Unsupported,
    /// Not now: another try is of use after this time.
    Unavailable(Duration),
    /// The server's own fault.
    Internal,
}

/// A request that gets no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// What kind of refusal it is.
    pub kind: Kind,
    /// What is wrong, with the field as the item.
    pub problems: Diagnostics,
}

impl Rejected {
    /// For this reason.
    pub fn new(kind: Kind, problems: impl Into<Diagnostics>) -> Self {
        Self { kind, problems: problems.into() }
    }

    /// The status of HTTP.
    pub fn status(&self) -> u16 {
        match self.kind {
            // What will never be done is wrong to ask for, and no fault of the server.
            Kind::Invalid | Kind::Unsupported => 400,
            Kind::NoToken | Kind::WrongToken => 401,
            Kind::Forbidden(_) => 403,
            Kind::TooOften(_) => 429,
            Kind::NotFound => 404,
            Kind::Method => 405,
            Kind::Slow => 408,
            Kind::TooLarge => 413,
            Kind::Coding => 415,
            Kind::Unavailable(_) => 503,
            Kind::Internal => 500,
        }
    }

    /// Whole seconds after which another try is of use.
    pub fn retry_after_s(&self) -> Option<u64> {
        match self.kind {
            Kind::Unavailable(after) | Kind::TooOften(after) => {
                Some(after.as_millis().div_ceil(1000).max(1) as u64)
            }
            _ => None,
        }
    }

    /// How whoever asks is to say who that is (the header `WWW-Authenticate`, as RFC 6750 has it), if that is the matter.
    pub fn challenge(&self) -> Option<String> {
        let why = match self.kind {
            Kind::NoToken => String::new(),
            Kind::WrongToken => ", error=\"invalid_token\"".to_owned(),
            Kind::Forbidden(scope) => format!(", error=\"insufficient_scope\", scope=\"{scope}\""),
            _ => return None,
        };
        Some(format!("Bearer realm=\"outgrow\"{why}"))
    }

    /// All that is wrong, in one line.
    pub fn message(&self) -> String {
        let line = |problem: &Diagnostic| problem.to_string().replace("\n  ", "; ").replace('\n', " ");
        self.problems.0.iter().map(line).collect::<Vec<_>>().join("; and ")
    }

    /// The body that says so in JSON.
    pub fn body(&self) -> Vec<u8> {
        serde_json::json!({ "error": self.message() }).to_string().into_bytes()
    }
}

impl From<Diagnostic> for Rejected {
    /// The client's fault.
    fn from(problem: Diagnostic) -> Self {
        Self::new(Kind::Invalid, problem)
    }
}
