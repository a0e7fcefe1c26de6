//! The section `state` of the settings: what replicas share, and through what.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

use crate::model::{Period, Problem, SecretRef, is_loopback};

/// What replicas tell one another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The Valkey or Redis through which replicas tell one another what is no longer trusted. Without it, each knows only
    /// what it was told itself.
    pub redis: Option<RedisSettings>,
}

/// A Valkey or Redis: one server, or a name that leads to the one that may be written to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RedisSettings {
    /// Where it is: `rediss://host:port` (TLS), or `redis://` where the host is loopback. The port is 6379 where none is
    /// said. Must be set.
    pub url: String,
    /// Whether a server on another machine may be spoken to without TLS, such as where a mesh encrypts. Whoever is on the way
    /// then reads the password, and can revoke and lift as they like unless `secret` is set.
    pub allow_plaintext: bool,
    /// The user (ACL) to log in as. Without it, the server's default user.
    pub username: Option<String>,
    /// The password to log in with. Read at start.
    pub password: Option<SecretRef>,
    /// The certificates (PEM) of the authorities that may vouch for the server, in place of the system's. Read at start.
    pub ca_file: Option<PathBuf>,
    /// The certificate chain (PEM) to show to the server, with `key_file`. Read at start.
    pub certificate_file: Option<PathBuf>,
    /// The private key (PEM) of that certificate.
    pub key_file: Option<PathBuf>,
    /// The number of the database.
    pub database: u16,
    /// What all keys and channels begin with: 1 to 64 letters, digits, `:`, `.`, `_`, `-`, `{` or `}`. Replicas hear each
    /// other where it is the same.
    pub key_prefix: String,
    /// A secret of at least 16 bytes that signs what is told, the same for all replicas. Without it, whoever can write to the
    /// server can revoke and, worse, lift revocations. With it, what is not signed is dropped. Must be set where the server is
    /// on another machine. Read at start.
    pub secret: Option<SecretRef>,
    /// Whether a server on another machine may be used without `secret`, by replicas that trust whoever can write to it.
    pub allow_unsigned: bool,
    /// How long one attempt to connect may take. `10ms` to `1m`.
    pub connect_timeout: Period,
    /// How long the start waits to hear what others know. After that, checks are answered by what is known here. At most
    /// `1m`.
    pub catch_up_wait: Period,
    /// About how many records the stream keeps. Whoever was away for longer reads everything in force. 100 to 1,000,000.
    pub stream_length: u32,
    /// How many records wait here while the server cannot be reached. Revocations beyond it are told all the same, by
    /// comparing everything in force; liftings beyond it are undone. 16 to 1,000,000.
    pub outbox: u32,
}

impl Default for RedisSettings {
    fn default() -> Self {
        Self {
            url: String::new(),
            allow_plaintext: false,
            username: None,
            password: None,
            ca_file: None,
            certificate_file: None,
            key_file: None,
            database: 0,
            key_prefix: "cardea:".to_owned(),
            secret: None,
            allow_unsigned: false,
            connect_timeout: Period::seconds(2),
            catch_up_wait: Period::seconds(2),
            stream_length: 10_000,
            outbox: 10_000,
        }
    }
}

impl Settings {
    /// Everything that is wrong with these settings, as far as it shows without reading files.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        self.redis
            .as_ref()
            .map_or_else(Vec::new, RedisSettings::problems)
    }
}

impl RedisSettings {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        match self.server() {
            Ok(server) => {
                self.check_tls(server.tls, &mut problems);
                self.check_secret(&server, &mut problems);
            }
            Err(problem) => problems.push(problem),
        }
        let mut say = |what: &str| problems.push(Problem::new(format!("`state.redis.{what}")));
        if self.username.is_some() && self.password.is_none() {
            say("username` is set without `password`");
        }
        if self.username.as_ref().is_some_and(String::is_empty) {
            say("username` must not be empty");
        }
        if self.certificate_file.is_some() != self.key_file.is_some() {
            say("certificate_file` and `key_file` need each other");
        }
        let prefix = self.key_prefix.as_bytes();
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b":._-{}".contains(byte);
        if !(1..=64).contains(&prefix.len()) || !prefix.iter().all(plain) {
            say("key_prefix` must be 1 to 64 letters, digits, `:`, `.`, `_`, `-`, `{` or `}`");
        }
        let minute = Period::seconds(60);
        let bounds = [
            Problem::out_of_bounds(
                "state.redis.connect_timeout",
                self.connect_timeout,
                Period::millis(10)..=minute,
            ),
            Problem::out_of_bounds(
                "state.redis.catch_up_wait",
                self.catch_up_wait,
                Period::seconds(0)..=minute,
            ),
            Problem::out_of_bounds(
                "state.redis.stream_length",
                self.stream_length,
                100..=1_000_000,
            ),
            Problem::out_of_bounds("state.redis.outbox", self.outbox, 16..=1_000_000),
        ];
        problems.extend(bounds.into_iter().flatten());
        problems
    }

    fn check_tls(&self, tls: bool, problems: &mut Vec<Problem>) {
        let files = [
            ("ca_file", &self.ca_file),
            ("certificate_file", &self.certificate_file),
            ("key_file", &self.key_file),
        ];
        for (name, file) in files {
            let Some(file) = file else { continue };
            if !tls {
                let what = format!("`state.redis.{name}` is set for a server without TLS");
                problems.push(Problem::new(what).hint("use `rediss://`"));
            } else if file.as_os_str().is_empty() {
                problems.push(Problem::new(format!(
                    "`state.redis.{name}` must name a file"
                )));
            }
        }
    }

    fn check_secret(&self, server: &Server, problems: &mut Vec<Problem>) {
        if self.secret.is_none() && !self.allow_unsigned && !server.near {
            let what = "`state.redis.secret` must be set, since the server is on another machine";
            let hint = "without it, whoever can write to the server can lift revocations; if they may, set `state.redis.allow_unsigned`";
            problems.push(Problem::new(what).hint(hint));
        }
    }

    /// Where the server is.
    pub(super) fn server(&self) -> Result<Server, Problem> {
        let wrong = |what: &str| {
            Problem::new(format!("`state.redis.url` {what}"))
                .hint("write it like `rediss://valkey.example:6379`")
        };
        let Ok(url) = Url::parse(&self.url) else {
            return Err(wrong("must be a URL"));
        };
        let tls = match url.scheme() {
            "rediss" => true,
            "redis" => false,
            _ => return Err(wrong("must be `rediss://`, or `redis://`")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("holds a user name or password")
                .hint("use `state.redis.username` and `state.redis.password`"));
        }
        let bare = url.query().is_none() && url.fragment().is_none();
        let host = url.host_str().unwrap_or_default();
        if host.is_empty() || !bare || !matches!(url.path(), "" | "/") {
            return Err(wrong("must be a host and a port"));
        }
        let near = on_this_machine(&url);
        if !tls && !self.allow_plaintext && !near {
            return Err(
                wrong("must be `rediss://`, since the server is on another machine")
                    .hint("or set `state.redis.allow_plaintext` where something else encrypts"),
            );
        }
        Ok(Server {
            // Brackets belong to the URL, not to the address.
            host: host.trim_matches(['[', ']']).to_owned(),
            port: url.port().unwrap_or(6379),
            tls,
            near,
        })
    }
}

/// The hosts of other schemes than those of the web are read as texts.
fn on_this_machine(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    Url::parse(&format!("http://{host}/")).is_ok_and(|url| is_loopback(&url))
}

/// Where the server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: bool,
    /// Whether it is on this machine.
    pub(super) near: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redis(url: &str) -> RedisSettings {
        RedisSettings {
            url: url.to_owned(),
            ..RedisSettings::default()
        }
    }

    #[test]
    fn nothing_is_shared_by_default() {
        assert_eq!(Settings::default().redis, None);
        assert_eq!(Settings::default().problems(), []);
    }

    #[test]
    fn a_server_is_named_by_its_url() {
        for (url, host, port, tls) in [
            ("rediss://valkey.example", "valkey.example", 6379, true),
            ("rediss://valkey.example:1/", "valkey.example", 1, true),
            ("redis://127.0.0.1:7", "127.0.0.1", 7, false),
            ("redis://localhost", "localhost", 6379, false),
            ("redis://[::1]:7", "::1", 7, false),
        ] {
            let server = redis(url).server().unwrap();
            assert_eq!((&*server.host, server.port, server.tls), (host, port, tls));
        }
    }

    #[test]
    fn plain_text_is_for_this_machine_unless_the_settings_say_otherwise() {
        let far = redis("redis://valkey.example:6379");
        let problem = far.server().unwrap_err();
        assert!(problem.message.contains("another machine"), "{problem}");
        let allowed = RedisSettings {
            allow_plaintext: true,
            ..far
        };
        assert!(allowed.server().is_ok());
    }

    #[test]
    fn what_a_server_on_another_machine_says_has_to_be_signed_unless_the_settings_say_otherwise() {
        let problems = |redis: RedisSettings| Settings { redis: Some(redis) }.problems();
        let far = redis("rediss://valkey.example");
        let told = problems(far.clone());
        assert_eq!(told.len(), 1, "{told:#?}");
        assert!(
            told[0]
                .message
                .starts_with("`state.redis.secret` must be set")
        );
        let mesh = RedisSettings {
            allow_plaintext: true,
            ..redis("redis://valkey.example")
        };
        assert_eq!(problems(mesh).len(), 1, "a mesh signs nothing");
        let signed = RedisSettings {
            secret: Some(SecretRef::File("secret".into())),
            ..far.clone()
        };
        let unsigned = RedisSettings {
            allow_unsigned: true,
            ..far
        };
        for fine in [
            signed,
            unsigned,
            redis("redis://[::1]:7"),
            redis("rediss://localhost"),
        ] {
            assert_eq!(problems(fine), []);
        }
    }

    #[test]
    fn a_url_that_is_no_host_and_port_is_refused() {
        for url in [
            "",
            "valkey.example:6379",
            "https://valkey.example",
            "rediss://",
            "rediss://me@valkey.example",
            "rediss://:canary@valkey.example",
            "rediss://valkey.example/3",
            "rediss://valkey.example?x",
            "redis://127.0.0.1.example",
        ] {
            let problem = redis(url).server().unwrap_err();
            assert!(problem.message.starts_with("`state.redis.url`"), "{url}");
            assert!(!problem.to_string().contains("canary"));
        }
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let settings = Settings {
            redis: Some(RedisSettings {
                username: Some(String::new()),
                ca_file: Some("ca.pem".into()),
                certificate_file: Some("own.pem".into()),
                key_prefix: "a b".to_owned(),
                connect_timeout: Period::seconds(100),
                catch_up_wait: Period::seconds(100),
                stream_length: 1,
                outbox: 1,
                ..redis("redis://127.0.0.1")
            }),
        };
        let problems = settings.problems();
        assert_eq!(problems.len(), 10, "{problems:#?}");
    }
}
