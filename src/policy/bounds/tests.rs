use super::*;
use crate::policy::tests::fixture::{BASE_SCHEMA, World, compile, document};
use crate::policy::{BundleFiles, Policies};

/// What is wrong with one policy file beside a good schema.
fn refused(text: &str) -> Problem {
    compile(&[("p.cedar", text)], &[]).unwrap_err().remove(0)
}

fn condition(condition: &str) -> String {
    format!("permit (principal, action, resource)\nwhen {{ {condition} }};\n")
}

/// Every way to nest, `depth` deep.
fn nested(depth: usize) -> [(&'static str, String); 12] {
    let n = depth;
    [
        (
            "parentheses",
            format!("{}true{}", "(".repeat(n), ")".repeat(n)),
        ),
        ("not", format!("{}true", "!".repeat(n))),
        ("minus", format!("{}1 == 1", "-".repeat(n))),
        ("and", format!("{}true", "context.tls.mutual && ".repeat(n))),
        ("or", format!("{}true", "context.tls.mutual || ".repeat(n))),
        (
            "if",
            format!(
                "{}true{}",
                "if true then ".repeat(n),
                " else false".repeat(n)
            ),
        ),
        (
            "else if",
            format!("{}true", "if false then true else ".repeat(n)),
        ),
        (
            "sets",
            format!("{}1{} == [1]", "[".repeat(n), "]".repeat(n)),
        ),
        (
            "records",
            format!("{}1{} == 1", "{a: ".repeat(n), "}".repeat(n)),
        ),
        ("attributes", format!("context{} == 1", ".a".repeat(n))),
        (
            "calls",
            format!("{}1{}", "[1].contains(".repeat(n / 3), ")".repeat(n / 3)),
        ),
        ("sums", format!("{}1 == 1", "1 + ".repeat(n))),
    ]
}

#[test]
fn whatever_nests_too_deep_is_refused_by_file_line_and_limit() {
    for (name, expression) in nested(100_000) {
        let problem = refused(&condition(&expression));
        assert!(
            problem.message.contains("nests more than 100 levels deep")
                || problem.message.contains("more than 10 `if`")
                || problem.message.contains("more than 50000 words and signs"),
            "{name}: {problem}"
        );
        assert_eq!(problem.file.as_deref().unwrap(), "p.cedar", "{name}");
        assert!(
            problem.at.is_some_and(|(line, _)| line == 2 || line == 3),
            "{name}: {problem}"
        );
    }
}

#[test]
fn what_is_just_within_the_limit_is_compiled_or_refused_by_cedar_and_never_overflows() {
    let ifs = nested(MAX_IFS)
        .into_iter()
        .filter(|(name, _)| name.contains("if"));
    let others = nested(MAX_NESTING - 10)
        .into_iter()
        .filter(|(name, _)| !name.contains("if"));
    for (name, expression) in ifs.chain(others) {
        if let Err(problems) = compile(&[("p.cedar", &condition(&expression))], &[]) {
            let message = &problems[0].message;
            assert!(
                !message.contains("levels deep") && !message.contains("more than"),
                "{name}: {message}"
            );
        }
    }
    // Cedar's validator gives up without a word where the stack runs out: with room for the limit it never does.
    let attribute = format!("context{} == 1", ".a".repeat(MAX_NESTING - 10));
    assert!(
        refused(&condition(&attribute))
            .message
            .contains("attribute `a`")
    );
}

#[test]
fn a_condition_within_the_limit_is_judged() {
    let chain = "!context.tls.mutual && ".repeat(MAX_NESTING - 20);
    let policies = compile(&[("p.cedar", &condition(&format!("{chain}true")))], &[]).unwrap();
    let world = World::new("a0.get", "1");
    let principal = world.principal(&policies);
    // Without optimisation an expression takes ten times the stack that it takes in a release, where a worker has room
    // for twice the limit.
    let judgement = with_room(|| Ok(policies.judge(world.question(&principal)))).unwrap();
    assert!(judgement.verdict.allows(), "{judgement:?}");
}

#[test]
fn ifs_within_one_another_are_bounded_since_validation_doubles_with_each() {
    let ladder = |count: usize| format!("{}true", "if false then true else ".repeat(count));
    let inner = |count: usize| {
        format!(
            "{}true{}",
            "(if true then ".repeat(count),
            " else false)".repeat(count)
        )
    };
    let operands = |count: usize| {
        format!(
            "{}true",
            "(true && if true then true else false) && ".repeat(count)
        )
    };
    for (text, fits) in [
        (ladder(MAX_IFS), true),
        (ladder(MAX_IFS + 1), false),
        (inner(MAX_IFS), true),
        (inner(MAX_IFS + 1), false),
        (
            format!("if true then ({}) else true", ladder(MAX_IFS)),
            false,
        ),
        (
            format!("({}) && if true then true else true", ladder(MAX_IFS)),
            false,
        ),
        (operands(3 * MAX_IFS), true),
    ] {
        let mut measure = Measure::new(Grammar::Policies);
        let measured = measure.take(&document("p.cedar", &condition(&text)));
        assert_eq!(measured.is_ok(), fits, "{text}");
    }
}

#[test]
fn what_stands_side_by_side_does_not_nest() {
    let list = "\"a.b && (c\", ".repeat(2000);
    let sums = "(1 + 1 == 2), ".repeat(2000);
    let text = format!(
        "// {}\n{}{}",
        "(".repeat(1000),
        condition(&format!("[{list}\"x\"].contains(context.token.kind)")),
        condition(&format!("[{sums}true].contains(true)")).repeat(3),
    );
    let mut measure = Measure::new(Grammar::Policies);
    measure.take(&document("p.cedar", &text)).unwrap();
    assert_eq!(measure.policies, 4);
    let comparisons = "permit (principal, action, resource) when { 1 < 2 };\n".repeat(1000);
    assert!(measure.take(&document("q.cedar", &comparisons)).is_ok());
}

#[test]
fn too_many_policies_and_too_long_ones_are_refused() {
    let many = "permit(principal,action,resource);".repeat(MAX_POLICIES + 1);
    let problem = refused(&many);
    assert!(
        problem.message.contains("more than 20000 policies"),
        "{problem}"
    );
    let files = [
        (
            "a.cedar",
            &*"permit(principal,action,resource);".repeat(MAX_POLICIES),
        ),
        ("b.cedar", "permit(principal,action,resource);"),
    ];
    let mut measure = Measure::new(Grammar::Policies);
    assert!(measure.take(&document(files[0].0, files[0].1)).is_ok());
    assert!(measure.take(&document(files[1].0, files[1].1)).is_err());
    let long = condition(&format!(
        "[{}1].contains(1)",
        "1, ".repeat(MAX_POLICY_TOKENS)
    ));
    let problem = refused(&long);
    assert!(
        problem.message.contains("one policy holds more than 50000"),
        "{problem}"
    );
}

#[test]
fn text_as_a_whole_is_bounded() {
    let clause = format!(
        "@a(\"{}\")\npermit (principal, action, resource);\n",
        "x".repeat(9)
    );
    let filler = condition(&format!("[{}1].contains(1)", "1, ".repeat(20_000)));
    let text = clause + &filler.repeat(60);
    let problem = refused(&text);
    assert!(
        problem
            .message
            .contains("more than 2000000 words and signs"),
        "{problem}"
    );
}

#[test]
fn a_schema_is_bounded_as_well() {
    let refused = |text: &str| {
        let files = BundleFiles {
            schema: vec![
                document("s.cedarschema", BASE_SCHEMA),
                document("deep.cedarschema", text),
            ],
            policies: vec![document("p.cedar", "permit (principal, action, resource);")],
            ..BundleFiles::default()
        };
        Policies::compile(&files, &[]).unwrap_err().remove(0)
    };
    for text in [
        format!(
            "namespace Deep {{\n type A = {}String{};\n}}",
            "Set<".repeat(100_000),
            ">".repeat(100_000)
        ),
        format!(
            "namespace Deep {{\n type A = {}String{};\n}}",
            "{a: ".repeat(100_000),
            "}".repeat(100_000)
        ),
    ] {
        let problem = refused(&text);
        assert!(
            problem.message.contains("nests more than 100 levels deep"),
            "{problem}"
        );
        assert_eq!(
            (
                problem.file.as_deref().unwrap().to_str().unwrap(),
                problem.at.unwrap().0
            ),
            ("deep.cedarschema", 2)
        );
    }
}

#[test]
fn half_a_text_ends_the_scan() {
    for text in [
        "\"",
        "\"\\",
        "//",
        "((",
        ")",
        "permit(principal",
        "\"a\\\"b\" ;",
        "é < ü;",
    ] {
        let mut measure = Measure::new(Grammar::Policies);
        assert!(measure.take(&document("p.cedar", text)).is_ok(), "{text}");
    }
}
