//! `cardea revoke`: take trust back, by asking a running Cardea.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use jiff::Timestamp;
use reqwest::{Client, Method, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};
use tokio::runtime::Builder;
use url::Url;

use super::{json, print};
use crate::identity::install_crypto;
use crate::model::{Problem, SecretRef, remote_url};

/// How long an answer may take. It comes once the revocation is on the disk.
const PATIENCE: Duration = Duration::from_secs(30);

/// The longest answer that is read, in bytes.
const LONGEST: usize = 16 << 20;

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, after_help = AFTER_HELP)]
pub(super) struct RevokeCommand {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    target: TargetArguments,
    /// Refuse what was issued before this time (RFC 3339); by default, now for people, clients and issuers
    #[arg(long, value_name = "TIME")]
    issued_before: Option<Timestamp>,
    /// When it may be forgotten (RFC 3339); by default, once everything it refuses has expired
    #[arg(long, value_name = "TIME")]
    expires_at: Option<Timestamp>,
    /// Why, for operators: it shows in lists and logs
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// A name for it, so that telling it twice counts once
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    #[command(flatten)]
    server: ServerArguments,
}

const AFTER_HELP: &str = "\
Examples:
  cardea revoke --subject alice --issuer https://login.example.com --reason 'laptop stolen'
  cardea revoke --session 4f1c --issuer https://login.example.com
  cardea revoke --token-id 7d0e
  cardea revoke --everyone --issuer https://login.example.com --issued-before 2026-01-05T12:00:00Z
  cardea revoke list --format json
  cardea revoke lift 01a1ff8c-3b4a-740f-8618-796cf1a289b5

Exit codes: 0 in force; 1 the server said no, or could not save it; 2 a mistake in arguments, or no server there.";

#[derive(Debug, Subcommand)]
enum What {
    /// Show what is no longer trusted, the latest first
    List(ServerArguments),
    /// Take a revocation back
    Lift {
        /// Its id, as `list` shows it
        id: String,
        #[command(flatten)]
        server: ServerArguments,
    },
}

/// What is no longer trusted: exactly one of these.
#[derive(Debug, clap::Args)]
struct TargetArguments {
    /// A person or program (`sub`); needs --issuer
    #[arg(long, value_name = "SUBJECT", requires = "issuer", group = "target")]
    subject: Option<String>,
    /// An OAuth client (`client_id`), whoever it acts for
    #[arg(long, value_name = "CLIENT", group = "target")]
    client: Option<String>,
    /// A login session (`sid`); needs --issuer
    #[arg(long, value_name = "SESSION", requires = "issuer", group = "target")]
    session: Option<String>,
    /// One token (`jti`)
    #[arg(long, value_name = "JTI", group = "target")]
    token_id: Option<String>,
    /// A key: an API key's id, a certificate's SHA-256, the thumbprint of a key of proofs
    #[arg(long, value_name = "KEY", group = "target")]
    key: Option<String>,
    /// Everybody that the issuer vouches for; needs --issuer
    #[arg(long, requires = "issuer", group = "target")]
    everyone: bool,
    /// Who vouches (`iss`); where it can be left out, every issuer is meant
    #[arg(long, value_name = "ISSUER")]
    issuer: Option<String>,
}

/// Which server to ask.
#[derive(Debug, clap::Args)]
struct ServerArguments {
    /// The admin endpoint: https, or http on this machine
    #[arg(
        long,
        value_name = "URL",
        env = "CARDEA_ADMIN",
        default_value = "http://127.0.0.1:9192"
    )]
    admin: String,
    /// The file with the secret of `admin.token`
    #[arg(long, value_name = "FILE", env = "CARDEA_ADMIN_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// How to answer
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Asks the server. Returns whether it did what it was asked for.
pub(super) fn run(command: &RevokeCommand) -> Result<bool, Vec<Problem>> {
    let one = |problem| vec![problem];
    let (server, method, place, body) = match &command.what {
        Some(What::List(server)) => (server, Method::GET, "revocations".to_owned(), None),
        Some(What::Lift { id, server }) => {
            (server, Method::DELETE, place_of(id).map_err(one)?, None)
        }
        None => {
            let body = command.body().map_err(one)?;
            let place = "revocations".to_owned();
            (&command.server, Method::POST, place, Some(body))
        }
    };
    let (status, answer) = server.ask(method, &place, body).map_err(one)?;
    let well = (200..300).contains(&status);
    let said = match server.format {
        Format::Json => json(&answer)?,
        Format::Text if !well => refusal(status, &answer),
        Format::Text => match &command.what {
            None => applied(&answer),
            Some(What::List(_)) => list(&answer),
            Some(What::Lift { id, .. }) => format!("{id} is lifted\n"),
        },
    };
    print(&said);
    Ok(well)
}

/// The path of one revocation. Its id has no character that a path would read otherwise.
fn place_of(id: &str) -> Result<String, Problem> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    let dots = id.bytes().all(|byte| byte == b'.');
    if dots || !id.bytes().all(plain) {
        return Err(Problem::new("that is no id of a revocation").hint("see `cardea revoke list`"));
    }
    Ok(format!("revocations/{id}"))
}

impl RevokeCommand {
    fn body(&self) -> Result<Value, Problem> {
        let target = &self.target;
        let named = [
            ("subject", "subject", &target.subject),
            ("client", "client_id", &target.client),
            ("session", "session_id", &target.session),
            ("token_id", "token_id", &target.token_id),
            ("key", "key_id", &target.key),
        ];
        let chosen = named
            .into_iter()
            .find_map(|(kind, member, name)| Some((kind, member, name.as_ref()?)));
        let mut parts = Map::new();
        if let Some(issuer) = &target.issuer {
            parts.insert("issuer".into(), issuer.as_str().into());
        }
        let kind = match chosen {
            Some((kind, member, name)) => {
                parts.insert(member.into(), name.as_str().into());
                kind
            }
            None if target.everyone => "issuer",
            None => {
                return Err(Problem::new("it is not said what to revoke").hint(
                    "one of --subject, --client, --session, --token-id, --key, or --everyone for all of an issuer",
                ));
            }
        };
        let mut body = json!({ "target": { kind: parts }, "source": "cli" });
        let more = [
            ("issued_before", self.issued_before.map(|at| at.to_string())),
            ("expires_at", self.expires_at.map(|at| at.to_string())),
            ("reason", self.reason.clone()),
            ("id", self.id.clone()),
        ];
        for (name, value) in more {
            if let (Some(value), Some(body)) = (value, body.as_object_mut()) {
                body.insert(name.into(), value.into());
            }
        }
        Ok(body)
    }
}

impl ServerArguments {
    fn ask(
        &self,
        method: Method,
        place: &str,
        body: Option<Value>,
    ) -> Result<(u16, Value), Problem> {
        let url = self.url(place)?;
        let secret = self.secret()?;
        install_crypto();
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime =
            runtime.map_err(|error| Problem::new(format!("cannot start a runtime: {error}")))?;
        runtime.block_on(async {
            let unreachable = |error: reqwest::Error| {
                let why = error.without_url();
                Problem::new(format!("the admin endpoint cannot be asked: {why}"))
                    .hint("name it with --admin, as `admin.address` in the settings says")
            };
            // The secret goes where it is told to and nowhere else: no proxy, no redirect.
            let client = Client::builder()
                .no_proxy()
                .redirect(redirect::Policy::none())
                .timeout(PATIENCE)
                .build()
                .map_err(unreachable)?;
            let mut request = client
                .request(method, url)
                .bearer_auth(secret.expose_secret());
            if let Some(body) = body {
                request = request
                    .header("content-type", "application/json")
                    .body(body.to_string());
            }
            let mut response = request.send().await.map_err(unreachable)?;
            let status = response.status().as_u16();
            let mut bytes = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
                bytes.extend_from_slice(&chunk);
                if bytes.len() > LONGEST {
                    return Err(Problem::new("the answer is longer than 16 MiB"));
                }
            }
            Ok((
                status,
                serde_json::from_slice(&bytes).unwrap_or(Value::Null),
            ))
        })
    }

    fn url(&self, place: &str) -> Result<Url, Problem> {
        let base = remote_url(&self.admin).ok_or_else(|| {
            Problem::new("--admin must be an https URL, or http on this machine")
                .hint("the secret would be sent in the clear otherwise")
        })?;
        let joined = base.join("/").and_then(|base| base.join(place));
        joined.map_err(|error| Problem::new(format!("--admin is no usable URL: {error}")))
    }

    fn secret(&self) -> Result<SecretString, Problem> {
        let path = self.token_file.clone().ok_or_else(|| {
            Problem::new("the admin endpoint's secret is not named")
                .hint("name its file with --token-file; the server reads it by `admin.token`")
        })?;
        SecretRef::File(path)
            .resolve()
            .map_err(|error| Problem::new(error.to_string()))
    }
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or("-")
}

fn applied(answer: &Value) -> String {
    let evicted = answer.get("evicted").and_then(Value::as_u64);
    let known = answer.get("known_already") == Some(&Value::Bool(true));
    format!(
        "{} is in force{}: {} cached proofs evicted, saved: {}\n",
        text(answer, "id"),
        if known { " already" } else { "" },
        evicted.unwrap_or_default(),
        text(answer, "saved")
    )
}

fn list(answer: &Value) -> String {
    let events = answer.get("revocations").and_then(Value::as_array);
    let mut said = String::new();
    for event in events.into_iter().flatten() {
        let target = event.get("target").unwrap_or(&Value::Null);
        let line = [
            text(event, "id"),
            text(event, "at"),
            &target.to_string(),
            text(event, "issued_before"),
            text(event, "expires_at"),
            text(event, "source"),
            text(event, "reason"),
        ]
        .join("  ");
        said.push_str(&line);
        said.push('\n');
    }
    let total = answer.get("total").and_then(Value::as_u64);
    said + &format!("{} in force\n", total.unwrap_or_default())
}

fn refusal(status: u16, answer: &Value) -> String {
    if answer.get("saved") == Some(&Value::from("no")) {
        let id = text(answer, "id");
        return format!(
            "{id} is in force and not saved: a restart would forget it; the server's log says why\n"
        );
    }
    let mut said = format!("the server says no ({status}): {}\n", text(answer, "error"));
    let mistakes = answer.get("mistakes").and_then(Value::as_array);
    let hint = answer.get("hint");
    let lines = mistakes.into_iter().flatten().chain(hint);
    for line in lines.filter_map(Value::as_str) {
        said.extend(["  ", line, "\n"]);
    }
    said
}
