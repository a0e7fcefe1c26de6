use cedar_policy::{PolicySet, SchemaFragment};

use super::*;
use crate::policy::tests::fixture::{BASE_SCHEMA, World, compile, document, operations};
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
    assert!(judgement.verdict.permitted(), "{judgement:?}");
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

/// What may stand between two words: each kind of white space, and comments with either end.
const BLANKS: [&str; 20] = [
    " ",
    "\t",
    "\n",
    "\r",
    "\r\n",
    "\u{b}",
    "\u{c}",
    "\u{85}",
    "\u{a0}",
    "\u{1680}",
    "\u{2003}",
    "\u{2028}",
    "\u{2029}",
    "\u{202f}",
    "\u{205f}",
    "\u{3000}",
    "// hi\n",
    "// hi\r",
    "// \"hi\r\n",
    "// \u{2028} \u{85} // \"(\r",
];

/// The limit that a text passes, in words.
fn passed(grammar: Grammar, text: &str) -> Option<String> {
    let measured = Measure::new(grammar).take(&document("p.cedar", text));
    measured.err().map(|problem| problem.message)
}

#[test]
fn whatever_cedar_reads_over_hides_no_nesting_and_no_if() {
    for blank in BLANKS {
        let start = format!(
            "permit{blank}(principal,{blank}action,{blank}resource){blank}when{blank}{{{blank}"
        );
        let parentheses = format!(
            "{start}{}true{}}};",
            format!("({blank}").repeat(200),
            ")".repeat(200)
        );
        let ifs = format!(
            "{start}{}true{}}};",
            format!("if{blank}true{blank}then{blank}").repeat(20),
            format!("{blank}else{blank}false").repeat(20)
        );
        let behind = format!("{blank}{}", "(".repeat(200));
        let sets = format!(
            "type{blank}A{blank}={blank}{}String{};",
            format!("Set{blank}<{blank}").repeat(200),
            ">".repeat(200)
        );
        let records = format!(
            "{blank}type A = {}String{};",
            format!("{{{blank}a{blank}:{blank}").repeat(200),
            "}".repeat(200)
        );
        for (grammar, text, limit) in [
            (Grammar::Policies, parentheses, "more than 100 levels deep"),
            (Grammar::Policies, ifs, "more than 10 `if`"),
            (Grammar::Policies, behind, "more than 100 levels deep"),
            (Grammar::Schema, sets, "more than 100 levels deep"),
            (Grammar::Schema, records, "more than 100 levels deep"),
        ] {
            let message = passed(grammar, &text).unwrap_or_default();
            assert!(message.contains(limit), "{blank:?} {grammar:?}: {message}");
        }
        let words = |count: usize| format!("a{blank}").repeat(count);
        assert_eq!(passed(Grammar::Policies, &words(MAX_POLICY_TOKENS)), None);
        let message = passed(Grammar::Policies, &words(MAX_POLICY_TOKENS + 1)).unwrap();
        assert!(message.contains("words and signs"), "{blank:?}: {message}");
    }
}

#[test]
fn blanks_are_what_cedars_lexer_takes_for_blanks() {
    let policy = |blank: &str| {
        format!("{blank}permit{blank}({blank}principal, action, resource);{blank}")
            .parse::<PolicySet>()
            .is_ok()
    };
    let schema = |blank: &str| {
        format!("{blank}entity{blank}E;{blank}")
            .parse::<SchemaFragment>()
            .is_ok()
    };
    for blank in BLANKS {
        assert!(policy(blank) && schema(blank), "{blank:?}");
        assert_eq!(blanks(&format!("{blank}a")), blank.len(), "{blank:?}");
    }
    let space = ('\0'..=char::MAX).filter(|sign| sign.is_whitespace());
    for sign in space.map(String::from) {
        assert!(policy(&sign) && schema(&sign), "{sign:?}");
        assert_eq!(blanks(&sign), sign.len(), "{sign:?}");
    }
    for sign in [
        "\0",
        "\u{1c}",
        "\u{1f}",
        "\u{180e}",
        "\u{200b}",
        "\u{2060}",
        "\u{feff}",
        "é",
        "\u{2003}é",
        "/* */",
        "# a\n",
        "'",
    ] {
        assert!(!policy(sign) && !schema(sign), "{sign:?}");
        assert!(blanks(sign) < sign.len(), "{sign:?}");
    }
}

#[test]
fn a_sign_that_cedar_does_not_know_is_counted_by_itself() {
    for sign in ["é", "\u{feff}", "\u{10ffff}", "'", "#", "1a"] {
        let message = passed(Grammar::Policies, &sign.repeat(MAX_POLICY_TOKENS + 1));
        // A number ends before a letter, and the letters and digits behind it are one word.
        assert_eq!(message.is_some(), sign != "1a", "{sign}");
    }
    let ifs = format!(
        "{}true{}",
        "if 1 < 1then ".repeat(20),
        " else false".repeat(20)
    );
    let message = passed(Grammar::Policies, &condition(&ifs)).unwrap_or_default();
    assert!(message.contains("more than 10 `if`"), "{message}");
}

#[test]
fn names_that_look_like_words_of_the_grammar_end_no_operand() {
    for expression in [
        format!("context{}", ".then".repeat(200)),
        format!("context{}", ".if.then.else.a".repeat(50)),
        format!("{}1 == 1", "then::\"x\" + ".repeat(200)),
        format!("{}1 == 1", "a::else::f(1) * ".repeat(200)),
        format!("{}1 == 1", "then - ".repeat(200)),
    ] {
        let message = passed(Grammar::Policies, &condition(&expression)).unwrap_or_default();
        assert!(message.contains("levels deep"), "{expression}: {message}");
    }
    let names = "context.if.then.else == 1, ".repeat(50);
    let text = condition(&format!("[{names}true].contains(true)"));
    assert_eq!(passed(Grammar::Policies, &text), None);
    let values = format!(
        "{}true{}",
        "{a: if true then ".repeat(11),
        " else false}.a".repeat(11)
    );
    let message = passed(Grammar::Policies, &condition(&values)).unwrap_or_default();
    assert!(message.contains("more than 10 `if`"), "{message}");
}

#[test]
fn only_its_own_bracket_closes_one() {
    for (grammar, text) in [
        (Grammar::Policies, condition(&"[),".repeat(200))),
        (Grammar::Policies, condition(&"f(],".repeat(200))),
        (Grammar::Policies, condition(&"({a: 1),".repeat(200))),
        (Grammar::Schema, "{a: Set<}, ".repeat(200)),
        (Grammar::Schema, "type A = Set<=".repeat(200)),
    ] {
        let message = passed(grammar, &text).unwrap_or_default();
        assert!(message.contains("levels deep"), "{text}: {message}");
    }
}

#[test]
fn files_with_any_line_ends_are_compiled() {
    let policies = "// All (of it.\npermit (principal, action, resource)\nwhen { [\"a // \\\"(\", \"b\"].contains(\"b\") && context.tls.mutual };\n// end";
    for end in ["\n", "\r\n", "\r"] {
        let files = BundleFiles {
            schema: vec![document("s.cedarschema", &BASE_SCHEMA.replace('\n', end))],
            policies: vec![document("p.cedar", &policies.replace('\n', end))],
            ..BundleFiles::default()
        };
        let compiled = Policies::compile(&files, &operations());
        assert!(compiled.is_ok(), "{end:?}: {:?}", compiled.err());
    }
}
