//! Files of cases: a list, or `base` and `cases`, where each case says only what differs from the base.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_saphyr::Spanned;

use super::at;
use super::expect::Expect;
use super::given::Given;
use crate::model::{Problem, shown, yaml};
use crate::policy::Document;

/// The most cases the files of one bundle may hold together.
pub const MAX_CASES: usize = 10_000;
/// The longest name of a case, in bytes.
const MAX_NAME: usize = 200;

/// The cases of several files, in order.
#[derive(Debug, Default)]
pub struct Suites {
    /// All of them.
    pub cases: Vec<Case>,
}

/// One case.
#[derive(Debug, Clone)]
pub struct Case {
    /// The file it stands in.
    pub file: PathBuf,
    /// The line it begins at.
    pub line: usize,
    /// What it is called; unique within its file.
    pub name: String,
    /// What it supposes.
    pub given: Given,
    /// What it expects.
    pub expect: Expect,
}

impl Suites {
    /// Reads files of cases (YAML, or JSON, which is YAML too).
    ///
    /// # Errors
    /// Everything that is wrong, with file and line. Of a file that is malformed only the first mistake is told.
    pub fn read(documents: &[Document]) -> Result<Self, Vec<Problem>> {
        let mut suites = Self::default();
        let mut problems = Vec::new();
        for document in documents {
            match read_file(document) {
                Ok(cases) => suites.cases.extend(cases),
                Err(wrong) => problems.extend(wrong),
            }
            if suites.cases.len() > MAX_CASES {
                let message = format!("the tests hold more than {MAX_CASES} cases");
                problems.push(Problem::new(message).in_file(&document.path));
                break;
            }
        }
        if problems.is_empty() {
            Ok(suites)
        } else {
            Err(problems)
        }
    }
}

/// A file. It is read twice: with its types, so that each mistake has its place; and without, so that base and case can
/// be merged.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File<C> {
    #[serde(default = "Option::default")]
    base: Option<C>,
    cases: Vec<C>,
}

/// A file that is a list of cases, or an object.
struct Either<C>(File<C>);

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct CaseForm {
    name: Option<String>,
    given: Given,
    expect: Expect,
}

fn read_file(document: &Document) -> Result<Vec<Case>, Vec<Problem>> {
    let file = &document.path;
    let alone = |mut problem: Problem| {
        // What is wrong with the whole is wrong from its beginning.
        problem.at = problem.at.or(Some((1, 1)));
        vec![problem.in_file(file)]
    };
    if is_blank(&document.text) {
        return Ok(Vec::new());
    }
    let Either(typed) = yaml::parse::<Either<Spanned<CaseForm>>>(&document.text).map_err(alone)?;
    let Either(plain) = yaml::parse::<Either<Value>>(&document.text).map_err(alone)?;
    let base = plain.base.unwrap_or_default();
    let mut names = BTreeSet::new();
    let mut problems = Vec::new();
    let mut cases = Vec::new();
    for (typed, plain) in typed.cases.iter().zip(plain.cases) {
        let line = yaml::place(typed.referenced).map_or(1, |(line, _)| line);
        match case(&base, plain, (file, line)) {
            Ok(case) if !names.insert(case.name.clone()) => {
                let message = format!("another case of this file is called `{}` too", case.name);
                problems.push(at(file, line, message));
            }
            Ok(case) => cases.push(case),
            Err(message) => problems.push(at(file, line, message)),
        }
    }
    if problems.is_empty() {
        Ok(cases)
    } else {
        Err(problems)
    }
}

fn is_blank(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim_start);
    lines.all(|line| line.is_empty() || line.starts_with('#'))
}

/// One case, with what the base says of it.
fn case(base: &Value, own: Value, (file, line): (&Path, usize)) -> Result<Case, String> {
    let merged = merge(base.clone(), own);
    let form: CaseForm = serde_json::from_value(merged).map_err(|error| {
        let message = error.to_string();
        format!("the case, merged with its base: {}", shown(&message, 300))
    })?;
    let name = form.name.unwrap_or_default();
    if name.trim().is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(format!(
            "a case needs a `name` of 1 to {MAX_NAME} bytes without control characters"
        ));
    }
    if form.expect.is_empty() {
        return Err(format!(
            "the case `{name}` expects nothing: say at least `expect: {{ verdict: deny }}`"
        ));
    }
    Ok(Case {
        file: file.to_owned(),
        line,
        name,
        given: form.given,
        expect: form.expect,
    })
}

/// Members that stand in place of one another: a case that names one means none of the base's others.
const RIVALS: [(&str, &[&str]); 7] = [
    ("caller", &["token"]),
    ("token", &["caller"]),
    ("url", &["path", "host"]),
    ("path", &["url"]),
    ("host", &["url"]),
    ("policies", &["policies_include"]),
    ("policies_include", &["policies"]),
];

/// Members of `own` replace those of `base`, objects member by member; null takes one away (as RFC 7396 merges).
fn merge(base: Value, own: Value) -> Value {
    let (mut base, own) = match (base, own) {
        (Value::Object(base), Value::Object(own)) => (base, own),
        (_, own) => return without_nulls(own),
    };
    for (key, value) in own {
        drop_rivals(&mut base, &key);
        match base.remove(&key) {
            _ if value.is_null() => {}
            Some(under) => _ = base.insert(key, merge(under, value)),
            None => _ = base.insert(key, without_nulls(value)),
        }
    }
    Value::Object(base)
}

fn drop_rivals(base: &mut Map<String, Value>, key: &str) {
    let rivals = RIVALS.iter().filter(|(name, _)| *name == key);
    for rival in rivals.flat_map(|(_, rivals)| rivals.iter()) {
        base.remove(*rival);
    }
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(
                kept.map(|(key, value)| (key, without_nulls(value)))
                    .collect(),
            )
        }
        other => other,
    }
}

impl<'de, C: Deserialize<'de>> Deserialize<'de> for Either<C> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader
            .deserialize_any(FileVisitor(std::marker::PhantomData))
            .map(Self)
    }
}

struct FileVisitor<C>(std::marker::PhantomData<C>);

impl<'de, C: Deserialize<'de>> Visitor<'de> for FileVisitor<C> {
    type Value = File<C>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of cases, or an object with `cases` and perhaps `base`")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<File<C>, A::Error> {
        File::deserialize(MapAccessDeserializer::new(members))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<File<C>, A::Error> {
        Ok(File {
            base: None,
            cases: Vec::deserialize(SeqAccessDeserializer::new(items))?,
        })
    }
}
