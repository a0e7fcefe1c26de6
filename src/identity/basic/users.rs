//! The users' file: names, hashes, and what each user is to policies.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;

use super::super::api_key::{is_scope, read_time};
use super::super::ground::{Ground, Lease};
use super::super::settings::plain;
use super::hash::{Hash, USUAL};
use crate::model::{IdentityAttributes, PrincipalKind, Problem, line_and_column, yaml};

/// The form of the file that this program reads.
const VERSION: u32 = 1;

/// The most users: this is a bridge for some legacy clients, not a directory.
const MOST: usize = 10_000;

/// The longest user name, in bytes.
pub(super) const MAX_NAME: usize = 128;

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    #[serde(default)]
    users: BTreeMap<String, Form>,
}

/// One user as it is written.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    /// The Argon2id hash of the password, as a PHC string.
    hash: String,
    #[serde(default = "client")]
    kind: PrincipalKind,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    tenant: Option<String>,
    /// When the user's time ends; never, without one.
    #[serde(default, deserialize_with = "end")]
    expires_at: Option<Timestamp>,
    #[serde(default)]
    disabled: bool,
}

fn client() -> PrincipalKind {
    PrincipalKind::Client
}

fn end<'de, D: serde::Deserializer<'de>>(reader: D) -> Result<Option<Timestamp>, D::Error> {
    read_time(reader).map(Some)
}

/// All users of one file.
#[derive(Debug)]
pub(super) struct Users {
    known: BTreeMap<String, Arc<User>>,
    /// What passwords of users that do not exist are checked against.
    nobody: Hash,
    /// What "no such user or password" stands on: it ends with this file.
    pub(super) ground: Arc<Ground>,
}

/// One user.
pub(super) struct User {
    name: String,
    form: Form,
    pub(super) hash: Hash,
    /// What proofs by this user's password stand on.
    pub(super) ground: Arc<Ground>,
}

impl Users {
    /// Reads a file. Who did not change since `old` stays as they are, and all proofs of them.
    ///
    /// # Errors
    /// All mistakes, with their lines where these can be told.
    pub(super) fn read(
        bytes: &[u8],
        path: &Path,
        (lease, old): (&Arc<Lease>, Option<&Self>),
    ) -> Result<Self, Vec<Problem>> {
        let text = std::str::from_utf8(bytes)
            .map_err(|_| Problem::new("the file of users is not UTF-8"))
            .and_then(|text| Ok((text, yaml::parse::<File>(text).map_err(quiet)?)));
        let (text, file) = text.map_err(|problem| vec![problem.in_file(path)])?;
        let mut problems = file.mistakes();
        let mut users = BTreeMap::new();
        for (name, form) in file.users {
            match User::new(&name, form, lease) {
                Ok(user) => {
                    let kept = old.and_then(|old| old.known.get(&name));
                    let kept = kept.filter(|kept| kept.form == user.form).map(Arc::clone);
                    users.insert(name, kept.unwrap_or_else(|| Arc::new(user)));
                }
                Err(wrong) => {
                    let at = text.find(&format!("{name}:")).or_else(|| text.find(&name));
                    problems.extend(wrong.into_iter().map(|what| {
                        let mut problem = Problem::new(format!(
                            "the user `{}`: {what}",
                            crate::model::shown(&name, MAX_NAME)
                        ));
                        problem.at = at.map(|at| line_and_column(text, at));
                        problem
                    }));
                }
            }
        }
        let cost = users.values().map(|user| user.hash.cost).max();
        let nobody = Hash::nobodys(cost.unwrap_or(USUAL));
        match nobody {
            Ok(nobody) if problems.is_empty() => Ok(Self {
                known: users,
                nobody,
                ground: Ground::under(lease),
            }),
            nobody => {
                problems.extend(nobody.err().map(Problem::new));
                let placed = problems.into_iter().map(|problem| problem.in_file(path));
                Err(placed.collect())
            }
        }
    }

    /// The user of that name, and the hash to check the password against, whether there is one or not.
    pub(super) fn find(&self, name: &str) -> (Option<&Arc<User>>, &Hash) {
        let user = self.known.get(name);
        (user, user.map_or(&self.nobody, |user| &user.hash))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Ends every proof of a user that `new` does not hold just so, and every refusal.
    pub(super) fn withdraw_all_but(&self, new: &Self) {
        for (name, user) in &self.known {
            let same = new
                .known
                .get(name)
                .is_some_and(|kept| Arc::ptr_eq(kept, user));
            if !same {
                user.ground.withdraw();
            }
        }
        self.ground.withdraw();
    }
}

impl File {
    fn mistakes(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.version != VERSION {
            let message = format!(
                "the file has version {}, and only {VERSION} is known",
                self.version
            );
            problems.push(Problem::new(message));
        }
        if self.users.len() > MOST {
            problems.push(Problem::new(format!(
                "the file holds more than {MOST} users"
            )));
        }
        problems
    }
}

impl User {
    fn new(name: &str, form: Form, lease: &Arc<Lease>) -> Result<Self, Vec<String>> {
        let mut wrong = Vec::new();
        if name.contains(':') || !plain(name) || name.len() > MAX_NAME {
            let what =
                format!("a name must be 1 to {MAX_NAME} bytes without `:` and control characters");
            wrong.push(what);
        }
        let lists = [("roles", &form.roles), ("groups", &form.groups)];
        for (what, list) in lists {
            if !list.iter().all(|value| plain(value)) {
                wrong.push(format!(
                    "`{what}` must be 1 to 512 bytes without control characters"
                ));
            }
        }
        if form.tenant.as_ref().is_some_and(|tenant| !plain(tenant)) {
            wrong.push("`tenant` must be 1 to 512 bytes without control characters".to_owned());
        }
        if !form.scopes.iter().all(|scope| is_scope(scope)) {
            wrong.push(
                "`scopes` must be scope tokens: visible ASCII without `\"` and `\\`".to_owned(),
            );
        }
        let hash = Hash::parse(&form.hash).map_err(|what| wrong.push(format!("`hash` {what}")));
        match hash {
            Ok(hash) if wrong.is_empty() => Ok(Self {
                name: name.to_owned(),
                form,
                hash,
                ground: Ground::under(lease),
            }),
            _ => Err(wrong),
        }
    }

    /// Whether the user may not come in, whatever the password.
    pub(super) fn disabled(&self) -> bool {
        self.form.disabled
    }

    /// When the user's time ends.
    pub(super) fn expires_at(&self) -> Timestamp {
        self.form.expires_at.unwrap_or(Timestamp::MAX)
    }

    /// What the user is to policies.
    pub(super) fn attributes(&self, issuer: &Arc<str>) -> IdentityAttributes {
        let Form {
            kind,
            scopes,
            roles,
            groups,
            tenant,
            ..
        } = &self.form;
        IdentityAttributes {
            client_id: (*kind == PrincipalKind::Client).then(|| self.name.clone()),
            scopes: scopes.clone(),
            roles: roles.clone(),
            groups: groups.clone(),
            tenant: tenant.clone(),
            // RFC 8176: a password.
            amr: vec!["pwd".to_owned()],
            ..IdentityAttributes::of(
                *kind,
                "basic",
                (Arc::clone(issuer), self.name.clone()),
                self.expires_at(),
            )
        }
    }
}

/// A mistake without what stands there: it may be part of a hash.
fn quiet(problem: Problem) -> Problem {
    let echoes = problem.message.contains(['$', '=']);
    let message = "the file cannot be read here; what stands there is not shown";
    let said = Problem {
        message: message.to_owned(),
        ..problem.clone()
    };
    let problem = if echoes { said } else { problem };
    problem.hint("in braces, put the hash in quotes")
}

/// Shows who, never the hash.
impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
