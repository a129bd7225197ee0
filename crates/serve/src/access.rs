//! Who may do what: the bearer tokens of a file, each with what it is good for, how often, and for how large requests.
//!
//! A token is known by its SHA-256, and compared with all that there are, in a time that says nothing of them.

use std::fmt::{self, Debug};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use outgrow_ir::{Diagnostic, Diagnostics, Problem};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::protocol::{Kind, Rejected};
use crate::secret;

/// Shorter tokens could be guessed.
const TOKEN_BYTES_MIN: usize = 16;
/// Most bytes of a token's file.
const FILE_BYTES_MAX: usize = 16 << 20;
/// Between which rates a token can be limited, in requests per second.
const RATE_MIN: f64 = 1e-6;
const RATE_MAX: f64 = 1e9;

/// What a token may be good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// To ask models.
    Infer,
    /// To load and unload them.
    Admin,
}

impl Scope {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Infer => "infer",
            Self::Admin => "admin",
        }
    }
}

/// What a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// No token.
    Nothing,
    /// Any token.
    Token,
    /// A token that is good for this.
    Scope(Scope),
}

/// The tokens. `Debug` shows their names only.
pub struct Access(Vec<Token>);

struct Token {
    name: String,
    digest: [u8; 32],
    scopes: Vec<Scope>,
    /// Bytes of a request.
    bytes_max: Option<usize>,
    rate: Option<Rate>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileJson {
    tokens: Vec<TokenJson>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenJson {
    name: String,
    token: Option<String>,
    sha256: Option<String>,
    scopes: Vec<Scope>,
    requests_per_s_max: Option<f64>,
    request_bytes_max: Option<usize>,
}

impl Access {
    /// Reads the tokens of a file: JSON if its name ends so, else TOML.
    ///
    /// # Errors
    /// All that is wrong with it; also when it holds tokens themselves and anybody on this machine may read it.
    pub fn open(path: &Path) -> Result<Self, Diagnostics> {
        let bytes = secret::read(path, "serve.tokens", "--tokens", FILE_BYTES_MAX)?;
        let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        let access = Self::parse(&bytes, is_json).map_err(|problems| {
            Diagnostics(problems.0.into_iter().map(|problem| problem.file(path)).collect())
        })?;
        // Of a digest nobody makes the token again.
        if access.1 {
            secret::refuse_if_open(path, "serve.tokens", "name tokens by their `sha256`, or `chmod o-r` it")?;
        }
        Ok(access.0)
    }

    /// The tokens of a file's text, and whether one of them stands in it as it is.
    fn parse(bytes: &[u8], is_json: bool) -> Result<(Self, bool), Diagnostics> {
        // Where it is wrong is said in words: with a line as its place, the line would be shown, and what is secret in it.
        let file: Result<FileJson, String> = if is_json {
            serde_json::from_slice(bytes).map_err(|error| error.to_string())
        } else {
            let text = std::str::from_utf8(bytes).map_err(|error| error.to_string());
            text.and_then(|text| {
                toml::from_str(text).map_err(|error: toml::de::Error| {
                    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
                    format!("{} at line {}", error.message(), before.matches('\n').count() + 1)
                })
            })
        };
        let file = file.map_err(|problem| {
            wrong(problem).expected(
                "tokens, each with `name`, `token` or `sha256`, and `scopes` of \"infer\" and \"admin\"",
            )
        })?;
        let mut problems = Diagnostics::default();
        let mut tokens: Vec<Token> = Vec::new();
        let mut is_open = false;
        for (i, json) in file.tokens.into_iter().enumerate() {
            is_open |= json.token.is_some();
            match json.checked() {
                Ok(token) if tokens.iter().any(|other| other.name == token.name) => problems.push(
                    wrong(format!("two tokens are named `{}`", token.name))
                        .item(format!("tokens[{i}].name"))
                        .hint("give each a name of its own"),
                ),
                Ok(token) if tokens.iter().any(|other| other.digest == token.digest) => problems.push(
                    wrong(format!("`{}` is the token of another one too", token.name))
                        .item(format!("tokens[{i}]"))
                        .hint("make each of its own: `openssl rand -hex 32`"),
                ),
                Ok(token) => tokens.push(token),
                Err(problem) => {
                    let field = problem.place.item.clone().unwrap_or_default();
                    problems.push(problem.item(format!("tokens[{i}].{field}")));
                }
            }
        }
        if tokens.is_empty() && problems.0.is_empty() {
            problems.push(wrong("there is no token").item("tokens").hint("add one, or leave out `--tokens`"));
        }
        problems.into_result((Self(tokens), is_open))
    }

    /// Lets a request in at this time, by its header `Authorization`, if it may do what it needs; says how many bytes it
    /// may have at most, if that is limited.
    ///
    /// # Errors
    /// When there is no token, it is none of these, it is not good for this, or it came too often.
    pub fn admit(
        &self,
        authorization: Option<&[u8]>,
        needs: Needs,
        now: Duration,
    ) -> Result<Option<usize>, Rejected> {
        let Some(token) = self.token(authorization, needs)? else { return Ok(None) };
        let Some((rate, after)) = token.rate.as_ref().and_then(|rate| Some((rate, rate.take(now).err()?)))
        else {
            return Ok(token.bytes_max);
        };
        let problem = format!("there are too many requests by the token `{}`", token.name);
        let problem = Diagnostic::new("serve.rate", problem).item("Authorization");
        let expected = format!("at most {} requests per second", rate.per_s);
        Err(Rejected::new(Kind::TooOften(after), problem.expected(expected)))
    }

    /// As [`Access::admit`], of what is no request itself but brings some, each of which is let in by itself.
    ///
    /// # Errors
    /// When there is no token, it is none of these, or it is not good for this.
    pub fn admit_call(&self, authorization: Option<&[u8]>, needs: Needs) -> Result<Option<usize>, Rejected> {
        Ok(self.token(authorization, needs)?.and_then(|token| token.bytes_max))
    }

    /// The token of a request that may do what it needs; none if it needs none.
    fn token(&self, authorization: Option<&[u8]>, needs: Needs) -> Result<Option<&Token>, Rejected> {
        let scope = match needs {
            Needs::Nothing => return Ok(None),
            Needs::Token => None,
            Needs::Scope(scope) => Some(scope),
        };
        let token = self.known(authorization)?;
        if let Some(scope) = scope.filter(|scope| !token.scopes.contains(scope)) {
            let problem = format!("the token `{}` is not good for this", token.name);
            let problem = Diagnostic::new("serve.scope", problem).item("Authorization");
            let expected = format!("a token with the scope `{}`", scope.name());
            return Err(Rejected::new(Kind::Forbidden(scope.name()), problem.expected(expected)));
        }
        Ok(Some(token))
    }

    fn known(&self, authorization: Option<&[u8]>) -> Result<&Token, Rejected> {
        let given = authorization.and_then(bearer).ok_or_else(|| {
            let problem = Diagnostic::new("serve.token", "there is no token").item("Authorization");
            Rejected::new(Kind::NoToken, problem.expected("Bearer TOKEN"))
        })?;
        let digest: [u8; 32] = Sha256::digest(given).into();
        let mut found = None;
        for token in &self.0 {
            if bool::from(token.digest.ct_eq(&digest)) {
                found = Some(token);
            }
        }
        found.ok_or_else(|| {
            let problem = Diagnostic::new("serve.token", "the token is not known").item("Authorization");
            Rejected::new(
                Kind::WrongToken,
                problem.expected("Bearer TOKEN, of those that the server was given"),
            )
        })
    }
}

impl Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|token| &token.name)).finish()
    }
}

fn wrong(problem: impl Into<String>) -> Problem {
    Diagnostic::new("serve.tokens", problem)
}

/// The token of a header (RFC 6750): the scheme in letters of any size, blanks, and the token.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(b"bearer ".len())?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

impl TokenJson {
    fn checked(self) -> Result<Token, Diagnostic> {
        if self.name.is_empty() || self.name.chars().any(char::is_control) {
            return Err(wrong("a token needs a name, by which it is told of")
                .item("name")
                .expected("a word"));
        }
        let digest = match (&self.token, &self.sha256) {
            (Some(token), None) => {
                let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
                if token.len() < TOKEN_BYTES_MIN || !token.bytes().all(fits) {
                    return Err(wrong(format!("the token `{}` is too short, or no token", self.name))
                        .item("token")
                        .expected(format!("{TOKEN_BYTES_MIN} or more of A-Z, a-z, 0-9 and -._~+/="))
                        .hint("make one: `openssl rand -hex 32`"));
                }
                Sha256::digest(token).into()
            }
            (None, Some(text)) => digest(text).ok_or_else(|| {
                wrong("is no SHA-256")
                    .item("sha256")
                    .expected("64 digits of base 16")
                    .hint("printf %s TOKEN | sha256sum")
            })?,
            _ => {
                let problem = format!("`{}` does not have one of `token` and `sha256`", self.name);
                return Err(wrong(problem).item("token").expected("the token, or its SHA-256"));
            }
        };
        if self.scopes.is_empty() {
            let problem = wrong(format!("the token `{}` is good for nothing", self.name)).item("scopes");
            return Err(problem.expected("\"infer\", \"admin\" or both"));
        }
        let per_s = self.requests_per_s_max;
        if per_s.is_some_and(|per_s| !(RATE_MIN..=RATE_MAX).contains(&per_s)) {
            return Err(wrong("is no rate")
                .item("requests_per_s_max")
                .expected(format!("{RATE_MIN} to {RATE_MAX}")));
        }
        if self.request_bytes_max == Some(0) {
            return Err(wrong("leaves nothing").item("request_bytes_max").expected("1 or more"));
        }
        Ok(Token {
            name: self.name,
            digest,
            scopes: self.scopes,
            bytes_max: self.request_bytes_max,
            rate: per_s.map(Rate::new),
        })
    }
}

fn digest(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (i, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(digest)
}

/// A rate that is not to be passed: those of one second may come at once, and then one whenever its time is over (the
/// generic cell rate algorithm).
struct Rate {
    per_s: f64,
    /// From when on all would be as if nothing had come.
    clear: Mutex<Duration>,
}

impl Rate {
    fn new(per_s: f64) -> Self {
        Self { per_s, clear: Mutex::new(Duration::ZERO) }
    }

    /// Takes one at this time.
    ///
    /// # Errors
    /// After which time another try is of use.
    fn take(&self, now: Duration) -> Result<(), Duration> {
        let each = Duration::from_secs_f64(1.0 / self.per_s);
        let at_once = Duration::from_secs(1).saturating_sub(each);
        // A number stays right, whatever happens to another thread.
        let mut clear = self.clear.lock().unwrap_or_else(PoisonError::into_inner);
        let ahead = clear.saturating_sub(now);
        if ahead > at_once {
            return Err(ahead - at_once);
        }
        *clear = (*clear).max(now) + each;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOML: &str = "[[tokens]]\nname = \"app\"\ntoken = \"0123456789abcdef\"\nscopes = [\"infer\"]\n\
        requests_per_s_max = 2\nrequest_bytes_max = 100\n\
        [[tokens]]\nname = \"ops\"\nscopes = [\"admin\"]\n\
        sha256 = \"3465f6e6975baa864ca957f0914ecda9bf7eb601ac31ac20a5dc3d329279a843\"\n";

    fn admit(access: &Access, authorization: &str, needs: Needs, ms: u64) -> Result<Option<usize>, Kind> {
        let given = Some(authorization.as_bytes()).filter(|given| !given.is_empty());
        access.admit(given, needs, Duration::from_millis(ms)).map_err(|rejected| rejected.kind)
    }

    #[test]
    fn tokens_are_good_for_their_scopes_and_rates() {
        let (access, is_open) = Access::parse(TOML.as_bytes(), false).unwrap();
        assert!(is_open);
        assert_eq!(format!("{access:?}"), r#"["app", "ops"]"#);
        let infer = Needs::Scope(Scope::Infer);
        let app = "Bearer 0123456789abcdef";
        assert_eq!(admit(&access, "", Needs::Nothing, 0), Ok(None));
        for (authorization, kind) in [
            ("", Kind::NoToken),
            ("Basic 0123456789abcdef", Kind::NoToken),
            ("Bearer ", Kind::NoToken),
            ("Bearer\t0123456789abcdef", Kind::NoToken),
            ("Bearer 0123456789abcdee", Kind::WrongToken),
            ("Bearer 0123456789abcdef0", Kind::WrongToken),
        ] {
            for needs in [Needs::Token, infer] {
                assert_eq!(admit(&access, authorization, needs, 0), Err(kind), "{authorization}");
            }
        }
        assert_eq!(admit(&access, app, Needs::Scope(Scope::Admin), 0), Err(Kind::Forbidden("admin")));
        // What is refused for its scope does not count; two in a second do.
        assert_eq!(admit(&access, "bEARER  0123456789abcdef", infer, 0), Ok(Some(100)));
        assert_eq!(admit(&access, app, Needs::Token, 100), Ok(Some(100)));
        assert_eq!(admit(&access, app, infer, 200), Err(Kind::TooOften(Duration::from_millis(300))));
        assert_eq!(admit(&access, app, infer, 500), Ok(Some(100)));
        assert_eq!(admit(&access, app, infer, 999), Err(Kind::TooOften(Duration::from_millis(1))));
        assert_eq!(admit(&access, app, infer, 60_000), Ok(Some(100)));
        assert_eq!(admit(&access, app, infer, 60_000), Ok(Some(100)));
        assert!(matches!(admit(&access, app, infer, 60_000), Err(Kind::TooOften(_))));
        // A call that brings requests is none itself.
        assert_eq!(access.admit_call(Some(app.as_bytes()), infer).unwrap(), Some(100));
        let kind = access.admit_call(Some(app.as_bytes()), Needs::Scope(Scope::Admin)).unwrap_err().kind;
        assert_eq!(kind, Kind::Forbidden("admin"));
        // The other one is known by its digest alone: the token is "fedcba9876543210".
        let ops = "Bearer fedcba9876543210";
        for ms in 0..50 {
            assert_eq!(admit(&access, ops, Needs::Scope(Scope::Admin), ms), Ok(None));
        }
        assert_eq!(admit(&access, ops, infer, 0), Err(Kind::Forbidden("infer")));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_without_its_secrets() {
        let one = |rest: &str| format!("[[tokens]]\nname = \"a\"\n{rest}\n");
        for (text, expect) in [
            ("".to_owned(), "missing field `tokens`"),
            ("tokens = []".to_owned(), "there is no token"),
            ("x =".to_owned(), "line 1"),
            (one("token = \"0123456789abcdef\""), "missing field `scopes`"),
            (one("token = \"0123456789abcdef\"\nscopes = [\"all\"]"), "unknown variant `all`"),
            (one("token = \"0123456789abcdef\"\nscopes = []"), "tokens[0].scopes: "),
            (one("token = \"0123456789abcde\"\nscopes = [\"infer\"]"), "tokens[0].token: "),
            (one("token = \"0123456789abcdef \"\nscopes = [\"infer\"]"), "tokens[0].token: "),
            (one("scopes = [\"infer\"]"), "tokens[0].token: "),
            (one("sha256 = \"12\"\nscopes = [\"infer\"]"), "tokens[0].sha256: "),
            (one("scope = [\"infer\"]"), "unknown field `scope`"),
            (format!("{TOML}{TOML}"), "tokens[3].name: two tokens are named `ops`"),
            (TOML.replace("= 2", "= 0"), "tokens[0].requests_per_s_max: "),
            (TOML.replace("= 100", "= 0"), "tokens[0].request_bytes_max: "),
            (format!("{TOML}{}", one("token = \"0123456789abcdef\"\nscopes = [\"infer\"]")), "tokens[2]: "),
        ] {
            let problems = Access::parse(text.as_bytes(), false).map(|_| ()).unwrap_err().to_string();
            assert!(problems.contains(expect), "{expect}: {problems}");
            assert!(!problems.contains("0123456789abcde"), "{problems}");
        }
        let json =
            "{\"tokens\": [{\"name\": \"a\", \"scopes\": [\"infer\"], \"token\": \"0123456789abcdef\"}]}";
        assert!(Access::parse(json.as_bytes(), true).is_ok());
        assert!(Access::parse(&json.as_bytes()[1..], true).is_err());
    }
}
