//! The page of attacks, held against the tests: every row has one, and every test it names exists and carries its row.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::source;

/// The tables that are complete, and how many rows each has.
const TABLES: [(char, usize); 6] = [('J', 22), ('H', 5), ('C', 8), ('X', 6), ('P', 13), ('G', 4)];

/// Rows that the page names in a sentence, and says there why no test meets them.
const UNTESTED: [&str; 1] = ["G2"];

/// What other tests begin with: rows of no table of this page.
const FOREIGN: [&str; 14] = [
    "A1", "A3", "B1", "B2", "B5", "E1", "E3", "E4", "E5", "K1", "R1", "R2", "S1", "S2",
];
#[test]
fn every_row_of_the_page_of_attacks_has_its_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/security/attacks.md")).unwrap();
    let tests: BTreeSet<String> = ["src", "tests"]
        .iter()
        .flat_map(|folder| source(&root.join(folder)))
        .flat_map(|(_, text)| tests_in(&text))
        .collect();
    assert!(tests.len() > 500, "only {} tests were found", tests.len());
    let found = faults(&page, &tests);
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// The names of all tests in a file: functions below an attribute that makes them one.
fn tests_in(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim_start) {
        let name = line
            .strip_prefix("async ")
            .unwrap_or(line)
            .strip_prefix("fn ");
        if line.starts_with("#[") {
            is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        } else if let Some((name, _)) = name.and_then(|rest| rest.split_once('(')) {
            if std::mem::take(&mut is_test) {
                names.push(name.to_owned());
            }
        } else if !line.is_empty() && !line.starts_with("//") {
            is_test = false;
        }
    }
    names
}

/// Everything in which the page and the tests differ.
fn faults(page: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut rows: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let named: Vec<&str> = cells.last().map_or_else(Vec::new, |cell| quoted(cell));
        let gone = named.iter().filter(|name| !tests.contains(**name));
        faults.extend(gone.map(|name| format!("there is no test `{name}`")));
        let row = cells[0];
        if is_row(row) {
            let other = named.iter().filter(|name| !carries(name, row));
            faults.extend(
                other.map(|name| format!("{row}: `{name}` does not carry the row in its name")),
            );
            if rows.insert(row, named).is_some() {
                faults.push(format!("{row} stands there twice"));
            }
        }
    }
    for row in all_rows() {
        let untested = UNTESTED.contains(&&*row);
        if untested && (rows.contains_key(&*row) || !page.contains(&format!("({row})"))) {
            faults.push(format!(
                "{row} is no exception any more, or the page does not say that it is one"
            ));
        } else if !untested && rows.get(&*row).is_none_or(Vec::is_empty) {
            faults.push(format!("{row} has no test"));
        }
    }
    for name in tests {
        let strange = rows_of(name)
            .into_iter()
            .find(|row| !rows.contains_key(&**row) && !FOREIGN.contains(&&**row));
        faults.extend(
            strange
                .map(|row| format!("`{name}` names the row {row}, which the page does not have")),
        );
    }
    faults
}

/// Every row of the tables that are complete.
fn all_rows() -> impl Iterator<Item = String> {
    let numbered = |(table, count)| (1..=count).map(move |number| format!("{table}{number}"));
    TABLES.into_iter().flat_map(numbered)
}

/// What stands between backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

fn is_row(text: &str) -> bool {
    let mut letters = text.chars();
    let first = letters.next().is_some_and(|c| c.is_ascii_uppercase());
    let rest = letters.as_str();
    first && (1..=2).contains(&rest.len()) && rest.bytes().all(|byte| byte.is_ascii_digit())
}

/// The rows at the beginning of a test's name: `j1_j2_..`.
fn rows_of(name: &str) -> Vec<String> {
    let rows = name.split('_').map(str::to_ascii_uppercase);
    rows.take_while(|part| is_row(part)).collect()
}

fn carries(name: &str, row: &str) -> bool {
    rows_of(name).iter().any(|own| own == row)
}

mod a_check_finds {
    use super::*;

    /// A page with every row, and its tests, with one text of it replaced.
    fn differences(from: &str, to: &str) -> Vec<String> {
        let (mut page, mut tests) = (String::from("| row | tests |\n"), BTreeSet::new());
        for row in all_rows() {
            if UNTESTED.contains(&&*row) {
                page += &["no test meets (", &row, ")\n"].concat();
                continue;
            }
            let name = format!("{}_is_met", row.to_lowercase());
            page += &["| ", &row, " | `", &name, "` |\n"].concat();
            tests.insert(name);
        }
        assert_eq!(faults(&page, &tests), [""; 0]);
        assert!(page.contains(from));
        faults(&page.replacen(from, to, 1), &tests)
    }

    #[test]
    fn rows_without_tests_and_tests_without_rows() {
        for (from, to, expected) in [
            ("`j7_is_met`", "", "J7 has no test"),
            (
                "`j7_is_met`",
                "`j7_is_gone`",
                "there is no test `j7_is_gone`",
            ),
            (
                "`j7_is_met`",
                "`j8_is_met`",
                "J7: `j8_is_met` does not carry the row in its name",
            ),
            ("| J7 |", "| J8 |", "J8 stands there twice"),
            (
                "| X6 |",
                "| X7 |",
                "`x6_is_met` names the row X6, which the page does not have",
            ),
            ("`g4_is_met`", "", "G4 has no test"),
            (
                "(G2)",
                "",
                "G2 is no exception any more, or the page does not say that it is one",
            ),
        ] {
            let found = differences(from, to);
            assert!(
                found.iter().any(|fault| fault == expected),
                "{expected}: {found:?}"
            );
        }
    }

    #[test]
    fn the_names_of_tests_and_of_nothing_else() {
        let text = "#[test]\nfn a() {}\nfn b() {}\n#[tokio::test(flavor = \"x\")]\n/// doc\nasync fn c() {}\n\
                    #[test]\n#[ignore]\n    fn d() {}\n#[test]\nstruct E;\nfn e() {}\n";
        assert_eq!(tests_in(text), ["a", "c", "d"]);
        assert_eq!(rows_of("j1_j22_x509_a"), ["J1", "J22"]);
        assert!(rows_of("j_1_a").is_empty() && rows_of("jj1_a").is_empty());
    }
}
