//! The new bundle against the old one.

use super::bundle::{Bundle, SHOP};

const NARROW: &str = r#"
    @id("staff") permit (principal in Cardea::Role::"staff", action == Cardea::Action::"shop.buy", resource)
    when { context.device.managed };
    @id("rest") forbid (principal, action, resource) when { context.signals.quarantined };"#;

const WIDE: &str = r#"
    @id("staff") permit (principal in Cardea::Role::"staff", action == Cardea::Action::"shop.buy", resource);
    @id("rest") forbid (principal, action, resource) when { context.signals.quarantined };"#;

#[test]
fn what_allows_less_is_proven_to_allow_no_more() {
    let (old, new) = (Bundle::of(WIDE), Bundle::of(NARROW));
    let run = new.prove(&["--old", &old.path()]);
    assert_eq!(run.code, 0, "{run:?}");
    let run = new.prove(&["--old", &new.path()]);
    assert_eq!(run.code, 0, "a bundle allows no more than itself: {run:?}");
}

#[test]
fn what_allows_more_is_shown_by_a_request() {
    let (old, new) = (Bundle::of(NARROW), Bundle::of(WIDE));
    let run = new.prove(&["--old", &old.path()]);
    assert_eq!(run.code, 1, "{run:?}");
    assert_eq!(run.refuted("no_more_than_old"), ["the bundle"]);
    let refuted = run.first();
    let shown = &refuted["counterexample"];
    assert_eq!(shown["allowed_by"], serde_json::json!(["staff"]));
    assert_eq!(
        shown["request"]["context"]["device"]["managed"], false,
        "{shown}"
    );
    let operations: Vec<_> = refuted["sorts"].as_array().unwrap().iter().collect();
    assert!(
        operations
            .iter()
            .all(|sort| sort["operation"] == "shop.buy"),
        "{operations:?}"
    );
    assert_eq!(
        operations.len(),
        4,
        "anonymous callers have no role: {operations:?}"
    );
}

#[test]
fn an_operation_that_is_new_or_described_otherwise_is_more() {
    let old = Bundle::of(WIDE);
    let retired = SHOP.replace("api: shop,", "api: shop, lifecycle: retired,");
    assert_ne!(retired, SHOP);
    old.file("shop.openapi.yaml", &retired);
    let run = Bundle::of(WIDE).prove(&["--old", &old.path()]);
    assert_eq!(run.code, 1, "{run:?}");
    let remark = run.first()["remark"].as_str().unwrap();
    assert!(
        remark.contains("describe the operation otherwise"),
        "{remark}"
    );

    let new = Bundle::of(WIDE);
    let more = SHOP.replace("operationId: buy", "operationId: purchase");
    new.file("shop.openapi.yaml", &more);
    let policies = WIDE.replace("shop.buy", "shop.purchase");
    new.file("policies.cedar", &policies);
    let run = new.prove(&["--old", &Bundle::of(WIDE).path()]);
    assert_eq!(run.code, 1, "{run:?}");
    let remark = run.first()["remark"].as_str().unwrap();
    assert!(remark.contains("does not know the operation"), "{remark}");
}

#[test]
fn bundles_whose_words_mean_different_things_are_not_compared() {
    let (old, new) = (Bundle::of(WIDE), Bundle::of(WIDE));
    let schema = include_str!("../../policies/schema/cardea.cedarschema");
    let more = schema.replace("entity Tenant;", "entity Tenant; entity Ledger;");
    new.file("cardea.cedarschema", &more);
    let run = new.prove(&["--old", &old.path()]);
    assert_eq!(run.code, 3, "{run:?}");
    assert!(run.reasons().contains("different schemas"), "{run:?}");
    // Comments are no difference.
    new.file("cardea.cedarschema", &format!("// a comment\n{schema}"));
    new.file(
        "roles.entities.json",
        r#"[{"uid":{"type":"Cardea::Role","id":"x"},"parents":[{"type":"Cardea::Role","id":"staff"}]}]"#,
    );
    let run = new.prove(&["--old", &old.path()]);
    assert_eq!(run.code, 3, "{run:?}");
    assert!(run.reasons().contains("different entities"), "{run:?}");
}

#[test]
fn an_old_forbid_that_can_err_leaves_the_comparison_open() {
    let old = Bundle::of(include_str!("../fixtures/hazard/forbid_overflow.cedar"));
    let new = Bundle::of(
        r#"@id("allow-all") permit (principal, action, resource);
           @id("fast") forbid (principal, action, resource) when { context.signals.rateRatioPct > 100 };"#,
    );
    let run = new.prove(&["--old", &old.path()]);
    assert_eq!(run.code, 3, "{run:?}");
    assert!(
        run.reasons().contains("`forbid-overflow` can error"),
        "{run:?}"
    );
}
