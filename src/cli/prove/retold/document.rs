//! Drafts of a document, from what a solver made up.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use crate::model::{Host, Operation, ResourceRule};
use crate::pipeline::trial::USUAL_TIME;
use crate::policy::Document;
use crate::policy::proof::Witness;

/// The midnight before the first weekday.
const MONDAY: Timestamp = Timestamp::constant(1_767_571_200, 0);

/// Where no document knows the way.
const NOWHERE: &str = "/undocumented";

/// What a path parameter is where its value does not matter.
const ANY: &str = "1";

/// The longest body that is written out.
const MAX_BODY: i64 = 4096;

/// The most hosts that are tried.
const MAX_HOSTS: usize = 32;

/// The most objects that are tried.
const MAX_OBJECTS: usize = 64;

/// The sections of the context that a document may have.
const SECTIONS: [&str; 7] = [
    "device",
    "geo",
    "network",
    "risk",
    "signals",
    "delegation",
    "emergency",
];

/// The documents that may say the same as a counterexample: at each of the times that it may mean, on each host that its
/// operation may be served on, about its own object or one that the bundle's files know more of.
pub(super) fn drafts<'a>(
    witness: &'a Witness,
    operation: &'a Operation,
    hosts: impl Iterator<Item = &'a Host>,
    objects: &'a [String],
) -> impl Iterator<Item = Value> {
    let hosts = hosts.take(MAX_HOSTS).map(|host| Some(host.as_str()));
    let hosts: Vec<Option<&str>> = [None, text(witness, "/request/host")]
        .into_iter()
        .chain(hosts)
        .collect();
    let times = times(witness);
    let objects = objects_of(witness, operation, objects);
    let drafts = objects.into_iter().flat_map(move |object| {
        let hosts = hosts.iter();
        let drafts = hosts.map(|host| draft(witness, operation, (object, *host)));
        drafts.collect::<Vec<_>>()
    });
    drafts.flat_map(move |draft| {
        times.clone().into_iter().map(move |time| {
            let mut draft = draft.clone();
            let context = draft.get_mut("context").and_then(Value::as_object_mut);
            if let Some(context) = context {
                context.insert("time".to_owned(), json!(time.to_string()));
            }
            draft
        })
    })
}

/// The paths of all that may be left out of a document, sections before what is in them.
pub(super) fn facts(draft: &Value) -> Vec<Vec<String>> {
    let members = |path: &[&str]| -> Vec<String> {
        let pointer: String = path.iter().flat_map(|part| ["/", part]).collect();
        let found = draft.pointer(&pointer).and_then(Value::as_object);
        found.map_or_else(Vec::new, |members| members.keys().cloned().collect())
    };
    let mut facts = Vec::new();
    let of = |path: &[&str], name: &str| -> Vec<String> {
        path.iter()
            .copied()
            .chain([name])
            .map(str::to_owned)
            .collect()
    };
    for name in members(&["context"]).iter().filter(|name| *name != "time") {
        facts.push(of(&["context"], name));
        for member in members(&["context", name]) {
            facts.push(of(&["context", name], &member));
        }
    }
    facts.push(of(&["subject"], "properties"));
    for name in members(&["subject", "properties"]) {
        facts.push(of(&["subject", "properties"], &name));
        for member in members(&["subject", "properties", &name]) {
            facts.push(of(&["subject", "properties", &name], &member));
        }
    }
    facts
}

/// A document without what is at a path.
pub(super) fn without(draft: &Value, path: &[String]) -> Value {
    let mut draft = draft.clone();
    if let Some((last, above)) = path.split_last() {
        let parent = above
            .iter()
            .try_fold(&mut draft, |at, part| at.get_mut(part));
        if let Some(members) = parent.and_then(Value::as_object_mut) {
            members.remove(last);
        }
    }
    draft
}

fn draft(witness: &Witness, operation: &Operation, place: (&str, Option<&str>)) -> Value {
    let context = witness.request.pointer("/context");
    let mut said = Map::new();
    for name in SECTIONS {
        let section = context.and_then(|context| context.get(name)?.as_object());
        if let Some(section) = section {
            said.insert(name.to_owned(), Value::Object(plainly(section)));
        }
    }
    if let Some(sni) = text(witness, "/tls/sni") {
        said.insert("sni".to_owned(), json!(sni));
    }
    if part(witness, "/tls/mutual") == Some(&Value::Bool(true)) {
        said.insert("mutual_tls".to_owned(), json!(true));
    }
    let bytes = part(witness, "/request/bodyBytes").and_then(Value::as_i64);
    if let Some(bytes) = bytes.filter(|bytes| (1..=MAX_BODY).contains(bytes)) {
        let bytes = usize::try_from(bytes).unwrap_or_default();
        said.insert("body".to_owned(), json!("x".repeat(bytes)));
    }
    json!({
        "subject": subject(witness),
        "action": { "name": action(operation) },
        "resource": resource(witness, operation, place),
        "context": said,
    })
}

/// A part of the counterexample's context.
fn part<'a>(witness: &'a Witness, pointer: &str) -> Option<&'a Value> {
    witness.request.pointer("/context")?.pointer(pointer)
}

fn text<'a>(witness: &'a Witness, pointer: &str) -> Option<&'a str> {
    part(witness, pointer)?.as_str()
}

/// The entity that the request names as `role`.
fn entity<'a>(witness: &'a Witness, role: &str) -> Option<&'a Value> {
    let uid = witness.request.get(role)?;
    let mut all = witness.entities.as_array()?.iter();
    all.find(|entity| entity.get("uid") == Some(uid))
}

fn attribute<'a>(entity: Option<&'a Value>, name: &str) -> Option<&'a str> {
    let value = entity?.get("attrs")?.get(name)?.as_str()?;
    Some(value).filter(|value| !value.is_empty())
}

fn subject(witness: &Witness) -> Value {
    let uid = |name: &str| {
        witness
            .request
            .pointer(&format!("/principal/{name}"))?
            .as_str()
    };
    let kind = uid("type").and_then(|kind| kind.rsplit("::").next());
    let kind = kind.unwrap_or_default().to_lowercase();
    if kind == "anonymous" {
        return json!({ "type": kind, "id": kind });
    }
    let entity = entity(witness, "principal");
    let mut properties = part(witness, "/token")
        .and_then(Value::as_object)
        .map(plainly)
        .unwrap_or_default();
    for other in ["kind", "issuer", "subject", "claims"] {
        properties.remove(other);
    }
    properties.extend(above(entity));
    if let Some(tenant) = entity.and_then(|entity| entity.pointer("/attrs/tenant/__entity/id")) {
        properties.insert("tenant".to_owned(), tenant.clone());
    }
    if let Some(claims) = tags(witness, "Claims") {
        properties.insert("claims".to_owned(), Value::Object(claims));
    }
    // One that a policy names has its id; any other has what makes one.
    let named = uid("id").filter(|id| id.contains('|')).map(str::to_owned);
    let id = named.or_else(|| {
        let (issuer, sub) = (attribute(entity, "issuer")?, attribute(entity, "sub")?);
        Some(format!("{issuer}|{sub}"))
    });
    let id = id.or_else(|| attribute(entity, "sub").map(str::to_owned));
    let id = id.unwrap_or_else(|| "somebody".to_owned());
    json!({ "type": kind, "id": id, "properties": properties })
}

/// The roles and groups above a principal.
fn above(entity: Option<&Value>) -> Map<String, Value> {
    let mut names: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    let parents = entity.and_then(|entity| entity.get("parents")?.as_array());
    for parent in parents.into_iter().flatten() {
        let kind = parent.get("type").and_then(Value::as_str);
        let name = match kind {
            Some("Cardea::Role") => "roles",
            Some("Cardea::Group") => "groups",
            _ => continue,
        };
        names
            .entry(name)
            .or_default()
            .extend(parent.get("id").cloned());
    }
    let names = names.into_iter();
    names
        .map(|(name, ids)| (name.to_owned(), json!(ids)))
        .collect()
}

/// The tags of the one entity of a type that has some.
fn tags(witness: &Witness, kind: &str) -> Option<Map<String, Value>> {
    let kind = format!("Cardea::{kind}");
    let mut all = witness.entities.as_array()?.iter();
    let found = all.find(|entity| {
        entity.pointer("/uid/type").and_then(Value::as_str) == Some(kind.as_str())
    })?;
    let tags = found.get("tags")?.as_object()?;
    (!tags.is_empty()).then(|| tags.clone())
}

fn action(operation: &Operation) -> &str {
    if operation.documented {
        &operation.id
    } else {
        operation.method.as_str()
    }
}

fn resource(
    witness: &Witness,
    operation: &Operation,
    (object, host): (&str, Option<&str>),
) -> Value {
    let mut properties = Map::new();
    if let Some(host) = host {
        properties.insert("host".to_owned(), json!(host));
    }
    if !operation.documented {
        properties.insert("path".to_owned(), json!(NOWHERE));
        return json!({ "type": "route", "id": NOWHERE, "properties": properties });
    }
    let mut params = params(witness, operation);
    let (kind, id) = match &operation.resource {
        ResourceRule::Route => ("route", operation.route.id.to_string()),
        ResourceRule::Object { kind, id: names } => {
            let own: Vec<&str> = object.split('/').filter(|part| !part.is_empty()).collect();
            if own.len() == names.len() {
                let own = own.iter().map(|part| unescaped(part));
                params.extend(names.iter().map(ToString::to_string).zip(own));
            }
            let parts = names.iter().map(|name| params.get(&**name));
            let parts = parts.map(|part| escaped(part.map_or(ANY, String::as_str)));
            (kind.as_str(), parts.collect::<Vec<_>>().join("/"))
        }
    };
    if !params.is_empty() {
        properties.insert("params".to_owned(), json!(params));
    }
    json!({ "type": kind, "id": id, "properties": properties })
}

/// A value for each path parameter.
fn params(witness: &Witness, operation: &Operation) -> BTreeMap<String, String> {
    let known = tags(witness, "Params").unwrap_or_default();
    let names = operation.route.template.split('{').skip(1);
    let names = names.filter_map(|part| part.split_once('}').map(|(name, _)| name));
    let value = |name: &str| known.get(name)?.as_str().filter(|value| !value.is_empty());
    names
        .map(|name| (name.to_owned(), value(name).unwrap_or(ANY).to_owned()))
        .collect()
}

/// The ids of the objects it may be about: of one that a policy names, what its entity is called, else what it says itself;
/// then those of that kind in `known`, the ids of entities.
fn objects_of<'a>(
    witness: &'a Witness,
    operation: &Operation,
    known: &'a [String],
) -> Vec<&'a str> {
    let ResourceRule::Object { kind, .. } = &operation.resource else {
        return vec![""];
    };
    let prefix = format!("{}/{kind}/", operation.route.api.name);
    let uid = witness.request.pointer("/resource/id");
    let named = uid.and_then(|uid| uid.as_str()?.strip_prefix(&prefix));
    let own = named.or_else(|| attribute(entity(witness, "resource"), "id"));
    let known = known.iter().filter_map(|uid| uid.strip_prefix(&prefix));
    let known = known.take(MAX_OBJECTS);
    std::iter::once(own.unwrap_or_default())
        .chain(known)
        .collect()
}

/// The ids of the objects in files of entities.
pub(super) fn objects(entities: &[Document]) -> Vec<String> {
    let files = entities.iter();
    let entities = files.filter_map(|file| serde_json::from_str::<Vec<Value>>(&file.text).ok());
    let uids = entities.flatten().filter_map(|entity| {
        let uid = entity.get("uid")?;
        let uid = uid.get("__entity").unwrap_or(uid);
        let kind = uid.get("type")?.as_str()?;
        let id = uid.get("id")?.as_str()?;
        (kind == "Cardea::Object").then(|| id.to_owned())
    });
    uids.collect()
}

/// See [`crate::model::Matched::object_id`].
fn escaped(part: &str) -> String {
    part.replace('%', "%25").replace('/', "%2F")
}

fn unescaped(part: &str) -> String {
    part.replace("%2F", "/").replace("%25", "%")
}

/// The times that a counterexample may mean: an ordinary one where none matters, its own, and one on its weekday at its
/// time of day.
fn times(witness: &Witness) -> Vec<Timestamp> {
    let own = part(witness, "/time/now").and_then(instant);
    let weekday = part(witness, "/time/weekday").and_then(Value::as_i64);
    let of_day = part(witness, "/time/localTime").and_then(span);
    let day = weekday.filter(|day| (1..=7).contains(day)).unwrap_or(1) - 1;
    let local = MONDAY.checked_add(SignedDuration::from_hours(24 * day));
    // The last of a day's moments is the first of the next.
    let last = SignedDuration::from_secs(24 * 60 * 60 - 1);
    let local = local.and_then(|day| day.checked_add(of_day.unwrap_or_default().min(last)));
    [Some(USUAL_TIME), own, local.ok()]
        .into_iter()
        .flatten()
        .collect()
}

/// The members of a record as documents write them, without those that cannot be written.
fn plainly(record: &Map<String, Value>) -> Map<String, Value> {
    let members = record.iter();
    members
        .filter_map(|(name, value)| Some((name.clone(), plain(value)?)))
        .collect()
}

fn plain(value: &Value) -> Option<Value> {
    let Value::Object(fields) = value else {
        return Some(value.clone());
    };
    if let Some(entity) = fields.get("__entity") {
        return entity.get("id").cloned();
    }
    if let Some(at) = instant(value) {
        return Some(json!(at.to_string()));
    }
    let text = call(value, "ip")?.first()?.as_str()?;
    let (address, bits) = text.split_once('/').unwrap_or((text, ""));
    let address: IpAddr = address.parse().ok()?;
    // Of a network, only that of one address.
    let whole = matches!(
        (address, bits),
        (_, "") | (IpAddr::V4(_), "32") | (IpAddr::V6(_), "128")
    );
    whole.then(|| json!(address))
}

/// The arguments of a call to a Cedar function.
fn call<'a>(value: &'a Value, function: &str) -> Option<Vec<&'a Value>> {
    let call = value.get("__extn")?;
    if call.get("fn")?.as_str()? != function {
        return None;
    }
    match (call.get("arg"), call.get("args")) {
        (Some(argument), _) => Some(vec![argument]),
        (None, Some(Value::Array(arguments))) => Some(arguments.iter().collect()),
        _ => None,
    }
}

/// A point in time, as Cedar writes it.
fn instant(value: &Value) -> Option<Timestamp> {
    if let Some([base, more]) = call(value, "offset").as_deref() {
        return instant(base)?.checked_add(span(more)?).ok();
    }
    let text = call(value, "datetime")?.first()?.as_str()?;
    match text.parse() {
        Ok(at) => Some(at),
        // A date alone is its first moment.
        Err(_) => format!("{text}T00:00:00Z").parse().ok(),
    }
}

/// A length of time, as Cedar writes it: `-1d2h3m4s5ms`.
fn span(value: &Value) -> Option<SignedDuration> {
    let text = call(value, "duration")?.first()?.as_str()?;
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let mut millis: i64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at_checked(digits)?;
        let letters = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(letters)?;
        let unit: i64 = match unit {
            "d" => 86_400_000,
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1_000,
            "ms" => 1,
            _ => return None,
        };
        let number: i64 = number.parse().ok()?;
        millis = millis.checked_add(number.checked_mul(unit)?.checked_mul(sign)?)?;
        rest = after;
    }
    Some(SignedDuration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extension(function: &str, argument: &str) -> Value {
        json!({ "__extn": { "fn": function, "arg": argument } })
    }

    #[test]
    fn what_cedar_writes_of_time_is_read() {
        let day = extension("datetime", "1970-01-02");
        let second = |at: Option<Timestamp>| at.map(Timestamp::as_second);
        assert_eq!(second(instant(&day)), Some(86_400));
        let moment = extension("datetime", "1970-01-01T00:00:07Z");
        assert_eq!(second(instant(&moment)), Some(7));
        let more = extension("duration", "-1d2h3m4s500ms");
        let back = json!({ "__extn": { "fn": "offset", "args": [day, more] } });
        assert_eq!(
            instant(&back).map(Timestamp::as_millisecond),
            Some(86_400_000 - (86_400_000 + 7_384_500))
        );
        for wrong in ["1", "1y", "99999999999999999999ms", "9223372036854775807d"] {
            assert_eq!(span(&extension("duration", wrong)), None, "{wrong}");
        }
        assert_eq!(instant(&extension("datetime", "yesterday")), None);
        assert_eq!(instant(&json!("1970-01-01")), None);
    }

    #[test]
    fn what_documents_cannot_say_is_left_out() {
        let record = json!({
            "flag": true,
            "subject": { "__entity": { "type": "Cardea::User", "id": "https://i|s" } },
            "ip": extension("ip", "192.0.2.1/32"),
            "six": extension("ip", "2001:db8::1"),
            "net": extension("ip", "192.0.2.0/24"),
            "at": extension("datetime", "2026-01-05"),
        });
        let expected = json!({
            "flag": true,
            "subject": "https://i|s",
            "ip": "192.0.2.1",
            "six": "2001:db8::1",
            "at": "2026-01-05T00:00:00Z",
        });
        let said = plainly(record.as_object().unwrap());
        assert_eq!(Value::Object(said), expected);
    }

    #[test]
    fn facts_are_left_out_one_by_one_and_never_the_time() {
        let draft = json!({
            "subject": { "type": "user", "properties": { "roles": ["a"] } },
            "context": { "time": "2026-01-05T00:00:00Z", "device": { "known": true } },
        });
        let facts = facts(&draft);
        let names: Vec<String> = facts.iter().map(|fact| fact.join(".")).collect();
        assert_eq!(
            names,
            [
                "context.device",
                "context.device.known",
                "subject.properties",
                "subject.properties.roles",
            ]
        );
        let shorter = facts
            .iter()
            .fold(draft, |draft, fact| without(&draft, fact));
        let expected = json!({
            "subject": { "type": "user" },
            "context": { "time": "2026-01-05T00:00:00Z" },
        });
        assert_eq!(shorter, expected);
    }
}
