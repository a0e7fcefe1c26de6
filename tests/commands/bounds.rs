//! Files that nest without end, or hold too much: an error by name, never a crash. A stack that overflows ends the whole
//! process, so only from outside can be seen that it does not.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::{cardea, shipped, text};

/// Checks the shipped bundle with one more file in it.
fn check(name: &str, content: &[u8]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    copy_folder(&shipped(), folder.path());
    let file = folder.path().join(name);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, content).unwrap();
    let output = cardea(&["check", "--bundle", folder.path().to_str().unwrap()], b"");
    (output.status.code(), text(&output.stderr))
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

const DEEP: usize = 100_000;

#[test]
fn a_hundred_thousand_levels_of_anything_are_an_error_with_its_file() {
    let around = |open: &str, middle: &str, close: &str| {
        format!("{}{middle}{}", open.repeat(DEEP), close.repeat(DEEP))
    };
    let policy =
        |condition: String| format!("permit (principal, action, resource) when {{ {condition} }};");
    let openapi = |deep: String| {
        format!("openapi: 3.1.0\ninfo: {{ title: x, version: '1' }}\npaths: {{}}\nx-deep: {deep}\n")
    };
    for (name, content) in [
        ("deep.cedar", policy(around("(", "true", ")"))),
        ("deep.cedar", policy(around("[", "1", "]"))),
        ("deep.cedar", policy(around("{a: ", "1", "}"))),
        (
            "deep.cedar",
            policy(around("if true then ", "true", " else false")),
        ),
        (
            "deep.cedar",
            policy(around("context.tls.mutual && ", "true", "")),
        ),
        ("deep.cedar", policy(around("1 + ", "1 == 1", ""))),
        (
            "deep.cedar",
            policy(format!("context{} == 1", ".a".repeat(DEEP))),
        ),
        ("deep.cedar", "(".repeat(DEEP)),
        (
            "deep.cedarschema",
            format!("type Deep = {};", around("Set<", "String", ">")),
        ),
        (
            "deep.cedarschema",
            format!("type Deep = {};", around("{a: ", "String", "}")),
        ),
        ("deep.entities.json", around("[", "", "]")),
        ("deep.links.yaml", around("[", "", "]")),
        ("deep.openapi.yaml", openapi(around("[", "", "]"))),
        ("deep.openapi.yaml", openapi(around("{a: ", "1", "}"))),
        ("deep.test.yaml", around("[", "", "]")),
    ] {
        let (code, error) = check(name, content.as_bytes());
        let head: String = content.chars().take(90).collect();
        assert_eq!(code, Some(2), "{name}: {head}: {error}");
        assert!(error.contains(name), "{name}: {head}: {error}");
    }
}

#[test]
fn what_stands_behind_a_comment_or_between_odd_blanks_is_measured_as_well() {
    let brackets = "(".repeat(DEEP);
    let ifs = format!(
        "permit (principal, action, resource) when {{ {}true{} }};",
        "if\u{2003}true\u{2003}then\u{2003}".repeat(10_000),
        "\u{2003}else\u{2003}false".repeat(10_000)
    );
    let types = format!("{}String{};", "Set<".repeat(DEEP), ">".repeat(DEEP));
    let levels = "more than 100 levels deep";
    for (name, content, limit) in [
        ("deep.cedar", format!("// hi\r{brackets}"), levels),
        ("deep.cedar", format!("// hi\r\u{2003}{brackets}"), levels),
        ("deep.cedar", ifs, "more than 10 `if`"),
        (
            "deep.cedarschema",
            format!("// hi\rtype Deep = {types}"),
            levels,
        ),
    ] {
        let (code, error) = check(name, content.as_bytes());
        assert_eq!(code, Some(2), "{name}: {error}");
        assert!(error.contains(name), "{name}: {error}");
        assert!(error.contains(limit), "{name}: {error}");
    }
}

#[test]
fn what_multiplies_by_reference_is_refused() {
    let mut aliases = "- &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let below = format!("*a{}", level - 1);
        writeln!(aliases, "- &a{level} [{}]", [&*below; 9].join(", ")).unwrap();
    }
    for name in ["bomb.test.yaml", "bomb.links.yaml"] {
        let (code, error) = check(name, aliases.as_bytes());
        assert_eq!(code, Some(2), "{name}: {error}");
        assert!(error.contains(name), "{error}");
    }
    let mut types = "namespace Bomb {\ntype T0 = { a: String, b: String };\n".to_owned();
    for level in 1..40 {
        let below = level - 1;
        writeln!(types, "type T{level} = {{ a: T{below}, b: T{below} }};").unwrap();
    }
    types += "entity E { a: T39 };\n}\n";
    let (code, error) = check("bomb.cedarschema", types.as_bytes());
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("more than 100000"), "{error}");
}

#[test]
fn a_bundle_of_fifty_mebibytes_and_a_million_entities_are_refused_by_their_limits() {
    let comment = format!("// {}\n", "x".repeat(1020));
    let (code, error) = check("large.cedar", comment.repeat(50 * 1024).as_bytes());
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("more than 16 MiB"), "{error}");
    let (code, error) = check(
        "many.entities.json",
        format!("[{}{{}}]", "{},".repeat(1_000_000)).as_bytes(),
    );
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("more than 250000 entities"), "{error}");
}
