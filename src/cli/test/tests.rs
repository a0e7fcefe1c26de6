use std::time::Duration;

use super::*;
use crate::pipeline::trial::{CaseReport, Coverage, Difference, Found};

fn found() -> Found {
    Found {
        verdict: "deny",
        reason: "forbidden",
        would_be: None,
        detail: "a policy forbids this".to_owned(),
        status: 403,
        operation: "orders.getOrder".to_owned(),
        policies: vec!["p".to_owned()],
        errors: Vec::new(),
        step_up: None,
    }
}

fn case(name: &str, found: Result<Found, String>, differences: Vec<Difference>) -> CaseReport {
    CaseReport {
        file: PathBuf::from("tests/a&b.yaml"),
        line: 7,
        name: name.to_owned(),
        found,
        differences,
        took: Duration::from_millis(2),
    }
}

fn report() -> Report {
    let difference = Difference {
        field: "verdict",
        expected: "allow".to_owned(),
        found: "deny".to_owned(),
    };
    Report {
        cases: vec![
            case("passes", Ok(found()), Vec::new()),
            case("<fails> \"so\"\u{1}", Ok(found()), vec![difference]),
            case("is none", Err("no `path`".to_owned()), Vec::new()),
        ],
        coverage: Coverage {
            reached: 999,
            missed: vec![(PathBuf::from("p.cedar"), 3, "lost".to_owned())],
        },
        left_out: 0,
    }
}

#[test]
fn people_see_the_difference_and_what_was_decided() {
    assert_eq!(
        text::render(&report(), true),
        "FAIL tests/a&b.yaml:7: <fails> \"so\"\u{1}\n  verdict\n    - expected allow\n    + found    deny\n  \
         decided: deny forbidden (403) on orders.getOrder by [p]\n  because: a policy forbids this\n\n\
         FAIL tests/a&b.yaml:7: is none\n  the case is no request: no `path`\n\n\
         coverage: 999 of 1000 policies were determining in some case (99%)\n  p.cedar:3: lost never was\n\
         2 of 3 failed\n"
    );
}

#[test]
fn build_servers_get_well_formed_xml() {
    let xml = junit::render(&report());
    assert_eq!(
        xml,
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <testsuites name=\"cardea\" tests=\"3\" failures=\"2\">\n  \
         <testsuite name=\"tests/a&amp;b.yaml\" tests=\"3\" failures=\"2\" errors=\"0\" time=\"0.006000\">\n    \
         <testcase name=\"passes\" classname=\"tests/a&amp;b.yaml\" file=\"tests/a&amp;b.yaml\" line=\"7\" time=\"0.002000\"/>\n    \
         <testcase name=\"&lt;fails&gt; &quot;so&quot;\u{fffd}\" classname=\"tests/a&amp;b.yaml\" file=\"tests/a&amp;b.yaml\" line=\"7\" time=\"0.002000\">\n      \
         <failure message=\"verdict: expected allow, found deny\">verdict: expected allow, found deny</failure>\n    </testcase>\n    \
         <testcase name=\"is none\" classname=\"tests/a&amp;b.yaml\" file=\"tests/a&amp;b.yaml\" line=\"7\" time=\"0.002000\">\n      \
         <failure message=\"no `path`\">no `path`</failure>\n    </testcase>\n  \
         </testsuite>\n</testsuites>\n"
    );
}

#[test]
fn a_share_just_below_the_limit_is_below_it() {
    assert!(is_below(&report(), 100) && !is_below(&report(), 99));
    let none = Report {
        cases: Vec::new(),
        coverage: Coverage::default(),
        left_out: 0,
    };
    assert!(!is_below(&none, 100));
}
