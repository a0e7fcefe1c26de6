use super::*;
use crate::policy::Policies;
use crate::policy::tests::fixture;

fn entities(files: &[(&str, &str)]) -> Result<Policies, Vec<Problem>> {
    fixture::compile(
        &[("p.cedar", "permit (principal, action, resource);")],
        files,
    )
}

fn refused(text: &str) -> Problem {
    entities(&[("e.json", text)]).unwrap_err().remove(0)
}

fn group(id: usize, parents: &[usize]) -> String {
    let reference = |id: &usize| json!({ "type": "Cardea::Group", "id": id.to_string() });
    let parents: Vec<Value> = parents.iter().map(reference).collect();
    json!({ "uid": reference(&id), "parents": parents }).to_string()
}

fn list(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().collect::<Vec<_>>().join(",\n"))
}

#[test]
fn a_million_entities_are_refused_by_their_number() {
    for item in ["0", "{}", r#"{"":0}"#] {
        let problem = refused(&format!("[{}0]", format!("{item},").repeat(1_000_000)));
        assert_eq!(
            problem.message,
            "the bundle holds more than 250000 entities"
        );
        assert_eq!(problem.file.as_deref().unwrap(), "e.json");
    }
}

#[test]
fn the_number_is_counted_over_all_files() {
    // Without the schema's eyes: what counts is counted before.
    let half = list(
        (0..MAX_ENTITIES / 2 + 1)
            .map(|id| format!(r#"{{"uid":{{"type":"Cardea::Role","id":"{id}"}}}}"#)),
    );
    let other = half.replace("\"id\":\"", "\"id\":\"x");
    let problems = entities(&[("a.json", &half), ("b.json", &other)]).unwrap_err();
    assert!(
        problems[0].message.contains("more than 250000 entities"),
        "{problems:?}"
    );
    assert_eq!(problems[0].file.as_deref().unwrap(), "b.json");
}

#[test]
fn an_entity_is_bounded_in_size_and_depth() {
    let long = format!("[\n  {{\"uid\":\"{}\"}}]", "x".repeat(MAX_ENTITY));
    let problem = refused(&long);
    assert_eq!(problem.message, "an entity is longer than 64 KiB");
    assert_eq!(problem.at, Some((2, 3)));
    let deep = format!("[\n  {}1{}]", "[".repeat(1000), "]".repeat(1000));
    let problem = refused(&deep);
    assert!(
        problem
            .message
            .ends_with("nested more than 127 levels deep"),
        "{problem}"
    );
    assert_eq!(problem.at, Some((2, 130)));
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(refused(&deep).message, "an entity is longer than 64 KiB");
}

#[test]
fn a_chain_of_groups_is_refused_before_it_is_followed_for_each() {
    let chain = list((0..5_000).map(|id| group(id, &[id + 1])));
    let problem = refused(&chain);
    assert!(
        problem.message.contains("takes more than 4000000 steps"),
        "{problem}"
    );
    let circle = list([group(1, &[2]), group(2, &[1])]);
    assert!(refused(&circle).message.contains("do not fit together"));
    let reasonable = list((0..300).map(|id| group(id, &[id + 1])));
    assert_eq!(
        entities(&[("e.json", &reasonable)]).unwrap().entities(),
        300
    );
}

#[test]
fn every_mistake_has_its_line() {
    let text = "[\n\n{\"uid\":{\"type\":\"Cardea::Group\",\"id\":\"a\"}},\n  {\"uid\":{\"type\":\"Cardea::Group\",\"id\":\"a\"}}, {\"uid\":{\"type\":\"Cardea::Group\",\"id\":\"b\"},\n \"attrs\":{\"x\":1}},\n{\"a\":1,\n \"a\":2}]";
    let problems = entities(&[("e.json", text)]).unwrap_err();
    let places: Vec<_> = problems.iter().map(|p| p.at.unwrap()).collect();
    assert_eq!(places, [(4, 3), (4, 46), (7, 7)], "{problems:?}");
    assert!(problems[2].message.contains("a member occurs twice"));
}
