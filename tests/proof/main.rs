//! Proofs through the real solver, as a pipeline would ask for them.
//!
//! `make test` installs cvc5 and names it in `CARDEA_CVC5`; without it these tests fail.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests stop a test where they stand"
)]

mod bundle;
mod comparison;
mod counterexamples;
mod decided;
mod gaps;

use bundle::{Bundle, prove};

/// The bundle that ships.
#[test]
fn the_default_bundle_is_proven() {
    let run = prove(&["--bundle", "policies"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(run.report["verdict"], "proven");
    assert!(run.report["invariants"].as_u64() >= Some(5), "{run:?}");
    assert_eq!(
        run.report["sorts"],
        16 * 5,
        "9 documented and 7 generic operations"
    );
}

#[test]
fn an_invariant_beside_the_bundle_holds_or_is_refuted() {
    let bundle = Bundle::of(
        r#"@id("staff") permit (principal in Cardea::Role::"staff", action == Cardea::Action::"shop.buy", resource)
           when { context.device.managed };"#,
    );
    let invariants = bundle.file(
        "more.cedar",
        r#"@id("managed-only") forbid (principal, action, resource) unless { context.device.managed };
           @id("fresh-login-only") forbid (principal, action, resource) unless { context.token has authTime };"#,
    );
    let run = bundle.prove(&["--invariants", &invariants]);
    assert_eq!(run.code, 1, "{run:?}");
    assert_eq!(run.refuted("invariant"), ["fresh-login-only"]);
    assert!(
        run.report["unsettled"].as_array().unwrap().is_empty(),
        "{run:?}"
    );
}

/// What is always so of a request is known to the proof: nobody anonymous has a scope, no time of day is in a billion
/// years, no operation lies in another API.
#[test]
fn what_no_request_is_like_refutes_nothing() {
    let bundle = Bundle::of(
        r#"@id("by-scope") permit (principal, action == Cardea::Action::"shop.buy", resource)
           when { context.token.scopes.contains("buy") };
           @id("elsewhere") permit (principal, action == Cardea::Action::"shop.buy", resource in Cardea::Api::"other");
           @id("stale") forbid (principal, action, resource)
           when { context.token has authTime && context.time.now.durationSince(context.token.authTime) > duration("1h") };"#,
    );
    let invariants = bundle.file(
        "more.cedar",
        r#"@id("no-anonymous") forbid (principal is Cardea::Anonymous, action, resource);"#,
    );
    let run = bundle.prove(&["--invariants", &invariants]);
    assert_eq!(run.code, 0, "{run:?}");
    let notes = run.report["notes"].to_string();
    assert!(
        notes.contains("the policy `elsewhere` applies to no request"),
        "{notes}"
    );
}

/// The logic of a chain must not double with each of its parts.
#[test]
fn a_long_condition_is_proven_in_its_time() {
    let parts: Vec<String> = (0..40)
        .map(|n| format!("context.token has acr && context.token.acr != \"{n}\""))
        .collect();
    let policy = format!(
        "@id(\"long\") permit (principal, action == Cardea::Action::\"shop.buy\", resource) when {{ {} }};",
        parts.join(" && ")
    );
    let run = Bundle::of(&policy).prove(&[]);
    assert_eq!(run.code, 0, "{run:?}");
}

/// Links are policies; shadow policies decide nothing, and should not err all the same.
#[test]
fn links_count_and_shadows_do_not() {
    let bundle = Bundle::of(
        r#"@id("may-buy") permit (principal == ?principal, action == Cardea::Action::"shop.buy", resource);
           @id("trial") @mode("shadow") forbid (principal, action, resource) when { context.risk.score * 100 > 1 };"#,
    );
    bundle.file(
        "staff.links.yaml",
        "- id: alice-may-buy\n  template: may-buy\n  principal: { type: 'Cardea::User', id: 'https://i|alice' }\n",
    );
    let invariants = bundle.file(
        "more.cedar",
        r#"@id("nobody-buys") forbid (principal, action == Cardea::Action::"shop.buy", resource);
           @id("no-agent-buys") forbid (principal is Cardea::Agent, action, resource);"#,
    );
    let run = bundle.prove(&["--invariants", &invariants]);
    assert_eq!(run.code, 1, "{run:?}");
    assert_eq!(run.refuted("never_errors"), ["trial"]);
    assert_eq!(run.refuted("invariant"), ["nobody-buys"]);
    assert!(run.report.to_string().contains("alice-may-buy"), "{run:?}");
}
