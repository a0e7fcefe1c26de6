use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use prost_types::value::Kind;

use crate::model::{
    AccessRequest, Arrival, Caller, CanonicalPath, Clock, CredentialFault, Headers, Host,
    HostError, IdentityAttributes, PathError, PathRules, Period, PrincipalKind, QueryError,
    Refusal, SnapshotId, StepUp, SystemClock, Trail, VerifiedIdentity,
};

use super::*;

fn answers() -> Answers {
    AnswerSettings::default().resolve().unwrap()
}

fn arrival(grpc: bool) -> Arrival {
    Arrival {
        at: Timestamp::UNIX_EPOCH,
        started: SystemClock.monotonic(),
        deadline: None,
        trace_parent: None,
        grpc,
    }
}

fn decided(outcome: Outcome, trail: Trail) -> Decision {
    Decision {
        outcome,
        trail,
        took: Duration::ZERO,
    }
}

fn refusal(reason: Reason, grpc: bool) -> Decision {
    let refusal = Refusal::new(reason, "s3cret detail for operators");
    decided(Outcome::Refused(refusal), Trail::begin(arrival(grpc)))
}

fn identity() -> IdentityAttributes {
    IdentityAttributes {
        client_id: Some("web".into()),
        scopes: vec!["orders:read".into(), "a,b".into()],
        roles: vec!["admin".into(), "staff".into()],
        ..IdentityAttributes::of(
            PrincipalKind::User,
            "bearer_jwt",
            ("https://idp.example.com".into(), "alice".into()),
            Timestamp::MAX,
        )
    }
}

fn request(headers: &[&str]) -> AccessRequest {
    let fields = headers
        .iter()
        .map(|name| ((*name).to_owned(), b"root".to_vec()));
    AccessRequest {
        headers: Headers::new(fields.collect()),
        ..AccessRequest::bare(
            Host::parse("api.example.com").unwrap(),
            CanonicalPath::parse("/", PathRules::default()).unwrap(),
        )
    }
}

fn allowed(caller: Caller, sent: &[&str]) -> Decision {
    let mut trail = Trail::begin(arrival(false));
    trail.caller = Some(caller);
    trail.request = Some(request(sent));
    decided(Outcome::Allowed(Permit::assertion()), trail)
}

fn verified(attributes: IdentityAttributes) -> Caller {
    Caller::Verified(Arc::new(VerifiedIdentity::assertion(attributes)))
}

fn ok(answer: &Answer) -> &OkHttpResponse {
    match &answer.wire().http_response {
        Some(HttpResponse::OkResponse(ok)) => ok,
        other => panic!("not allowed: {other:?}"),
    }
}

fn denied(answer: &Answer) -> &DeniedHttpResponse {
    match &answer.wire().http_response {
        Some(HttpResponse::DeniedResponse(denied)) => denied,
        other => panic!("not denied: {other:?}"),
    }
}

fn map(headers: &[HeaderValueOption]) -> BTreeMap<&str, &str> {
    headers
        .iter()
        .map(|option| option.header.as_ref().unwrap())
        .map(|header| (header.key.as_str(), header.value.as_str()))
        .collect()
}

fn metadata_of(answer: &Answer) -> BTreeMap<String, String> {
    let fields = &answer.wire().dynamic_metadata.as_ref().unwrap().fields;
    let shown = |kind: &Kind| match kind {
        Kind::StringValue(text) => text.clone(),
        other => format!("{other:?}"),
    };
    fields
        .iter()
        .map(|(name, value)| (name.clone(), shown(value.kind.as_ref().unwrap())))
        .collect()
}

/// Every reason, with what the table in the documentation says.
fn table() -> Vec<(Reason, i32, i32)> {
    vec![
        (Reason::AmbiguousPath(PathError::DotSegment), 400, 3),
        (Reason::AmbiguousQuery(QueryError::TooMany), 400, 3),
        (Reason::AmbiguousHost(HostError::Empty), 400, 3),
        (Reason::AmbiguousCredential, 400, 3),
        (Reason::RepeatedParameter, 400, 3),
        (Reason::UnknownMethod, 400, 3),
        (Reason::MalformedRequest, 400, 3),
        (Reason::ContractViolated, 400, 3),
        (Reason::CredentialMissing, 401, 16),
        (Reason::CredentialInvalid(CredentialFault::Expired), 401, 16),
        (Reason::StepUpRequired(StepUp::default()), 401, 16),
        (Reason::NotPermitted, 403, 7),
        (Reason::Forbidden, 403, 7),
        (Reason::PolicyError, 403, 7),
        (Reason::Quarantined, 403, 7),
        (Reason::ApprovalRequired, 403, 7),
        (Reason::NotFound, 404, 5),
        (Reason::Retired, 410, 5),
        (Reason::TooManyRequests, 429, 8),
        (Reason::NotReady, 503, 14),
        (Reason::DeadlineTooNear, 503, 14),
        (Reason::KeysUnavailable, 503, 14),
        (Reason::IntrospectionUnavailable, 503, 14),
        (Reason::MintFailed, 503, 14),
        (Reason::StatusUnavailable, 503, 14),
        (Reason::Internal, 503, 14),
    ]
}

#[test]
fn g4_every_reason_has_its_status_and_none_is_an_allow() {
    for (reason, http, grpc) in table() {
        let code = reason.code();
        let decision = refusal(reason, false);
        assert_eq!(i32::from(http_status(&decision)), http, "{code}");
        assert_eq!(grpc_status(&decision), grpc, "{code}");
        let answer = answer(&decision, &answers());
        assert_eq!(answer.wire().status.as_ref().unwrap().code, grpc, "{code}");
        let denied = denied(&answer);
        assert_eq!(denied.status.unwrap().code, http, "{code}");
        let body: serde_json::Value = serde_json::from_str(&denied.body).unwrap();
        assert_eq!(body["status"], http);
        assert_eq!(body["reason"], code);
        let headers = map(&denied.headers);
        assert_eq!(headers["content-type"], "application/problem+json");
        assert_eq!(headers["cache-control"], "no-store");
        assert_eq!(
            headers.contains_key("retry-after"),
            matches!(http, 429 | 503),
            "{code}"
        );
        assert_eq!(metadata_of(&answer)["verdict"], "deny");
    }
}

#[test]
fn a_caller_that_is_set_apart_is_told_for_how_long_where_the_policy_says() {
    let retry_after = |reason: Reason, period: Option<Period>, grpc: bool| {
        let mut decision = refusal(reason, grpc);
        decision.trail.notes.set_apart = period;
        let answer = answer(&decision, &answers());
        let headers = map(&denied(&answer).headers);
        headers.get("retry-after").map(|text| (*text).to_owned())
    };
    let minutes = Some(Period::seconds(900));
    for grpc in [false, true] {
        let told = retry_after(Reason::Quarantined, minutes, grpc);
        assert_eq!(told.as_deref(), Some("900"));
    }
    let short = retry_after(Reason::Quarantined, Some(Period::millis(1)), false);
    assert_eq!(short.as_deref(), Some("1"), "never zero");
    assert_eq!(retry_after(Reason::Quarantined, None, false), None);
    // Another forbid of the same request outranks it: the time would give it away.
    assert_eq!(retry_after(Reason::NotFound, minutes, false), None);
}

#[test]
fn a_problem_document_names_the_decision_and_no_detail_meant_for_operators() {
    let decision = refusal(Reason::NotPermitted, false);
    let answer = answer(&decision, &answers());
    let body: serde_json::Value = serde_json::from_str(&denied(&answer).body).unwrap();
    assert_eq!(body["type"], "about:blank");
    assert_eq!(body["title"], "Forbidden");
    assert_eq!(body["decision"], decision.trail.id.to_string());
    assert!(!denied(&answer).body.contains("s3cret"));
}

#[test]
fn a_grpc_caller_gets_its_status_and_a_message_in_plain_text() {
    for (reason, _, grpc) in table() {
        let code = reason.code();
        let decision = refusal(reason, true);
        let answer = answer(&decision, &answers());
        let denied = denied(&answer);
        let headers = map(&denied.headers);
        assert_eq!(headers["grpc-status"], grpc.to_string(), "{code}");
        assert!(!headers.contains_key("content-type"));
        assert!(
            denied
                .body
                .ends_with(&format!("({code}, decision {})", decision.trail.id))
        );
    }
}

#[test]
fn an_observed_request_passes_and_envoy_is_told_what_would_have_been() {
    for (reason, http, grpc) in table() {
        let code = reason.code();
        let mut decision = allowed(verified(identity()), &[]);
        decision.trail.determining = vec!["says".into()];
        let refusal = Refusal::new(reason, "s3cret detail for operators");
        decision.outcome = Outcome::Observed(Permit::assertion(), refusal);
        assert_eq!((http_status(&decision), grpc_status(&decision)), (200, 0));
        let answer = answer(&decision, &answers());
        assert_eq!(answer.wire().status.as_ref().unwrap().code, 0, "{code}");
        // The upstream is told who asks, as of any request that passes.
        assert_eq!(map(&ok(&answer).headers)["x-cardea-subject"], "alice");
        let metadata = &answer.wire().dynamic_metadata.as_ref().unwrap().fields;
        let kind = |name: &str| metadata[name].kind.clone().unwrap();
        assert_eq!(kind("verdict"), Kind::StringValue("allow".into()));
        assert_eq!(kind("reason"), Kind::StringValue("observed".into()));
        assert_eq!(kind("observed"), Kind::BoolValue(true));
        let Kind::StructValue(would_be) = kind("would_be") else {
            panic!("{metadata:?}");
        };
        let number = |number: i32| Some(Kind::NumberValue(f64::from(number)));
        assert_eq!(would_be.fields["status"].kind, number(http), "{code}");
        assert_eq!(would_be.fields["grpc_status"].kind, number(grpc), "{code}");
        let same = Some(Kind::StringValue(code.into()));
        assert_eq!(would_be.fields["reason"].kind, same);
        assert!(!format!("{:?}", answer.wire()).contains("s3cret"));
    }
    let plain = answer(&allowed(Caller::Anonymous, &[]), &answers());
    let metadata = metadata_of(&plain);
    assert!(!metadata.contains_key("observed") && !metadata.contains_key("would_be"));
}

/// What a gRPC library reads of a denial.
fn error_info(answer: &Answer) -> (tonic_types::Status, tonic_types::pb::ErrorInfo) {
    use base64::Engine;
    use prost::Message;
    let headers = map(&denied(answer).headers);
    let value = headers["grpc-status-details-bin"];
    let bytes = base64::engine::general_purpose::STANDARD_NO_PAD.decode(value);
    let status = tonic_types::Status::decode(&*bytes.unwrap()).unwrap();
    let [detail] = &status.details[..] else {
        panic!("not one detail: {status:?}");
    };
    assert_eq!(detail.type_url, "type.googleapis.com/google.rpc.ErrorInfo");
    let info = tonic_types::pb::ErrorInfo::decode(&*detail.value).unwrap();
    (status, info)
}

#[test]
fn a_grpc_caller_is_told_the_reason_in_the_place_that_libraries_read() {
    for (reason, _, grpc) in table() {
        let code = reason.code();
        let decision = refusal(reason, true);
        let answer = answer(&decision, &answers());
        let (status, info) = error_info(&answer);
        assert_eq!(status.code, grpc, "{code}");
        assert_eq!(status.message, denied(&answer).body);
        assert_eq!(info.reason, code.to_ascii_uppercase());
        assert_eq!(info.domain, "cardea");
        assert_eq!(info.metadata["decision"], decision.trail.id.to_string());
        assert_eq!(info.metadata.len(), 1, "{code}");
    }
    let http = answer(&refusal(Reason::NotPermitted, false), &answers());
    assert!(!map(&denied(&http).headers).contains_key("grpc-status-details-bin"));
}

#[test]
fn a_grpc_caller_is_told_which_login_would_be_enough() {
    let step_up = StepUp {
        acr_values: vec!["gold".into(), "bad\" x".into(), "urn:acr:2".into()],
        max_age: Some(300),
    };
    let answer = answer(&refusal(Reason::StepUpRequired(step_up), true), &answers());
    let headers = map(&denied(&answer).headers);
    assert_eq!(headers["grpc-status"], "16");
    assert_eq!(
        headers["www-authenticate"],
        r#"Bearer realm="cardea", error="insufficient_user_authentication", acr_values="gold urn:acr:2", max_age="300""#
    );
    let (status, info) = error_info(&answer);
    assert_eq!((status.code, &*info.reason), (16, "STEP_UP_REQUIRED"));
    assert_eq!(info.metadata["acr_values"], "gold urn:acr:2");
    assert_eq!(info.metadata["max_age"], "300");
    assert_eq!(info.metadata.len(), 3);
}

#[test]
fn a_challenge_says_what_would_help_and_no_more() {
    let challenge = |reason: Reason| {
        let answer = answer(&refusal(reason, false), &answers());
        let headers = map(&denied(&answer).headers)
            .remove("www-authenticate")
            .map(str::to_owned);
        headers.unwrap_or_default()
    };
    assert_eq!(
        challenge(Reason::CredentialMissing),
        r#"Bearer realm="cardea""#
    );
    assert_eq!(
        challenge(Reason::CredentialInvalid(CredentialFault::Signature)),
        r#"Bearer realm="cardea", error="invalid_token""#
    );
    assert_eq!(
        challenge(Reason::AmbiguousCredential),
        r#"Bearer realm="cardea", error="invalid_request""#
    );
    let step_up = StepUp {
        acr_values: vec![
            "gold".into(),
            "urn:acr:2".into(),
            "bad\" x=\"".into(),
            "a b".into(),
            "n\r\n".into(),
        ],
        max_age: Some(300),
    };
    assert_eq!(
        challenge(Reason::StepUpRequired(step_up)),
        r#"Bearer realm="cardea", error="insufficient_user_authentication", acr_values="gold urn:acr:2", max_age="300""#
    );
    assert_eq!(challenge(Reason::NotPermitted), "");
}

#[test]
fn own_trouble_is_an_envoy_error_only_where_the_operator_asks_for_it() {
    let settings = AnswerSettings {
        own_trouble: OwnTrouble::EnvoyError,
        ..AnswerSettings::default()
    };
    for (reason, http, grpc) in table() {
        let reason_code = reason.code();
        let answer = answer(&refusal(reason, false), &settings.resolve().unwrap());
        assert_eq!(answer.wire().status.as_ref().unwrap().code, grpc);
        let is_error = matches!(
            answer.wire().http_response,
            Some(HttpResponse::ErrorResponse(_))
        );
        // Without what its upstream relies on a request passes nowhere.
        assert_eq!(is_error, http == 503 && reason_code != "mint_failed");
    }
}

#[test]
fn an_allowed_request_tells_the_upstream_who_asks() {
    let decision = allowed(verified(identity()), &["accept"]);
    let answer = answer(&decision, &answers());
    assert_eq!(answer.wire().status.as_ref().unwrap().code, 0);
    let id = decision.trail.id.to_string();
    let expected = BTreeMap::from([
        ("x-cardea-subject", "alice"),
        ("x-cardea-issuer", "https://idp.example.com"),
        ("x-cardea-principal", "User"),
        ("x-cardea-client", "web"),
        ("x-cardea-roles", "admin,staff"),
        ("x-cardea-scopes", "orders:read,a%2Cb"),
        ("x-cardea-decision", &id),
    ]);
    assert_eq!(map(&ok(&answer).headers), expected);
    assert_eq!(ok(&answer).headers_to_remove, ["x-cardea-tenant"]);
    let overwrite = HeaderAppendAction::OverwriteIfExistsOrAdd as i32;
    assert!(
        ok(&answer)
            .headers
            .iter()
            .all(|header| header.append_action == overwrite)
    );
}

#[test]
fn x1_every_copy_of_our_headers_is_overwritten_or_removed_even_if_it_was_not_seen() {
    let answer = answer(&allowed(Caller::Anonymous, &[]), &answers());
    let set = map(&ok(&answer).headers);
    assert_eq!(
        set.keys().copied().collect::<Vec<_>>(),
        ["x-cardea-decision", "x-cardea-principal"]
    );
    assert_eq!(set["x-cardea-principal"], "Anonymous");
    assert_eq!(
        ok(&answer).headers_to_remove,
        ["client", "issuer", "roles", "scopes", "subject", "tenant"]
            .map(|name| format!("x-cardea-{name}"))
    );
}

#[test]
fn x2_look_alikes_of_our_headers_are_removed() {
    let sent = [
        "x_cardea_subject",
        "x-cardea_roles",
        "x-cardea-subject",
        "x-cardea-score",
        "x_cardea_anything",
        "x-cardea",
        "x-other",
    ];
    let answer = answer(&allowed(verified(identity()), &sent), &answers());
    assert_eq!(
        ok(&answer).headers_to_remove,
        [
            "x-cardea-score",
            "x-cardea-tenant",
            "x-cardea_roles",
            "x_cardea_anything",
            "x_cardea_subject"
        ]
    );
}

#[test]
fn a_name_that_is_set_is_never_removed() {
    let from_client = ["x-cardea-subject", "x-cardea-decision", "x-user", "x_user"];
    let mut settings = AnswerSettings::default();
    settings.headers.subject = Some("X-User".into());
    settings.headers.roles = None;
    let answer = answer(
        &allowed(verified(identity()), &from_client),
        &settings.resolve().unwrap(),
    );
    let ok = ok(&answer);
    let set = map(&ok.headers);
    assert_eq!(set["x-user"], "alice");
    assert!(!set.contains_key("x-cardea-roles"));
    assert_eq!(
        ok.headers_to_remove,
        [
            "x-cardea-roles",
            "x-cardea-subject",
            "x-cardea-tenant",
            "x_user"
        ]
    );
    assert!(
        ok.headers_to_remove
            .iter()
            .all(|name| !set.contains_key(name.as_str()))
    );
}

/// The answer to a request of somebody known, with what was minted, under settings that carry it in this header.
fn carrying(
    header: &str,
    minted: Option<&str>,
    sent: &[&str],
    settings: &AnswerSettings,
) -> OkHttpResponse {
    assert_eq!(settings.problem_of_minted(header), None);
    let mut decision = allowed(verified(identity()), sent);
    decision.trail.minted = minted.map(crate::model::Minted::new);
    let answer = answer(&decision, &settings.resolve().unwrap().with_minted(header));
    ok(&answer).clone()
}

#[test]
fn x1_a_clients_copy_of_the_minted_token_is_overwritten_or_removed_even_if_it_was_not_seen() {
    let usual = AnswerSettings::default();
    for header in ["x-cardea-identity", "X-Who"] {
        let name = header.to_ascii_lowercase();
        for sent in [&[][..], &[name.as_str()][..]] {
            let with = carrying(header, Some("a.b.c"), sent, &usual);
            assert_eq!(map(&with.headers)[name.as_str()], "a.b.c");
            assert!(!with.headers_to_remove.contains(&name));
            let without = carrying(header, None, sent, &usual);
            assert!(!map(&without.headers).contains_key(name.as_str()));
            assert!(without.headers_to_remove.contains(&name));
        }
    }
}

#[test]
fn x2_look_alikes_of_the_minted_token_are_removed() {
    let sent = ["x_cardea_identity", "x-cardea_identity", "x_who", "x-who"];
    let usual = AnswerSettings::default();
    let ok = carrying("x-who", Some("a.b.c"), &sent, &usual);
    let removed = [
        "x-cardea-tenant",
        "x-cardea_identity",
        "x_cardea_identity",
        "x_who",
    ];
    assert_eq!(ok.headers_to_remove, removed);
}

#[test]
fn a_minted_token_may_take_the_place_of_the_callers_own_credential() {
    for credential in [Credential::Keep, Credential::Remove] {
        let settings = AnswerSettings {
            credential,
            ..AnswerSettings::default()
        };
        let own = "authorization".to_owned();
        let with = carrying(
            "Authorization",
            Some("a.b.c"),
            &["authorization"],
            &settings,
        );
        assert_eq!(map(&with.headers)["authorization"], "Bearer a.b.c");
        assert!(!with.headers_to_remove.contains(&own));
        let without = carrying("Authorization", None, &["authorization"], &settings);
        assert!(!map(&without.headers).contains_key("authorization"));
        assert!(without.headers_to_remove.contains(&own));
    }
}

#[test]
fn a_header_that_means_something_else_carries_no_minted_token() {
    let mut settings = AnswerSettings::default();
    settings.headers.subject = Some("X-User".to_owned());
    for header in [
        "",
        "host",
        "cookie",
        "x-envoy-original-path",
        "x who",
        "x_who",
        "x-user",
        "X-Cardea-Roles",
    ] {
        assert!(settings.problem_of_minted(header).is_some(), "{header}");
    }
    assert_eq!(
        settings.problem_of_minted("X-Cardea-Subject"),
        None,
        "it is another's no more"
    );
}

#[test]
fn the_credential_is_removed_only_if_so_set() {
    let decision = allowed(Caller::Anonymous, &["authorization"]);
    let kept = answer(&decision, &answers());
    assert!(
        !ok(&kept)
            .headers_to_remove
            .contains(&"authorization".to_owned())
    );
    let settings = AnswerSettings {
        credential: Credential::Remove,
        ..AnswerSettings::default()
    };
    let removed = answer(&decision, &settings.resolve().unwrap());
    assert!(
        ok(&removed)
            .headers_to_remove
            .contains(&"authorization".to_owned())
    );
}

#[test]
fn a_value_that_is_too_long_is_left_out_and_the_clients_copy_removed() {
    let mut attributes = identity();
    attributes.subject = "x".repeat(2001);
    attributes.roles = vec!["role".into(); 1000];
    let answer = answer(&allowed(verified(attributes), &[]), &answers());
    let set = map(&ok(&answer).headers);
    assert!(!set.contains_key("x-cardea-subject") && !set.contains_key("x-cardea-roles"));
    for name in ["x-cardea-subject", "x-cardea-roles"] {
        assert!(ok(&answer).headers_to_remove.contains(&name.to_owned()));
    }
}

#[test]
fn every_answer_carries_what_the_access_log_needs() {
    let mut decision = allowed(verified(identity()), &[]);
    decision.trail.snapshot = Some(SnapshotId::new("abc"));
    decision.trail.determining = vec!["orders.read".into()];
    let metadata = metadata_of(&answer(&decision, &answers()));
    assert_eq!(metadata["decision"], decision.trail.id.to_string());
    assert_eq!(metadata["verdict"], "allow");
    assert_eq!(metadata["reason"], "permitted");
    assert_eq!(metadata["operation"], "unread");
    assert_eq!(
        metadata["principal"],
        r#"User::"https://idp.example.com|alice""#
    );
    assert_eq!(metadata["snapshot"], "abc");
    assert!(metadata["policies"].contains("orders.read"));
    let metadata = metadata_of(&answer(&refusal(Reason::Forbidden, false), &answers()));
    assert_eq!(
        (metadata["verdict"].as_str(), metadata["reason"].as_str()),
        ("deny", "forbidden")
    );
}

#[test]
fn all_mistakes_in_the_names_are_told_at_once() {
    let mut settings = AnswerSettings::default();
    settings.headers.subject = Some("authorization".into());
    settings.headers.issuer = Some("x_issuer".into());
    settings.headers.roles = Some("x-cardea-tenant".into());
    settings.headers.client = Some(":path".into());
    settings.headers.scopes = Some("x-envoy-original-path".into());
    settings.realm = "a\"b".into();
    let problems = settings.resolve().unwrap_err();
    let text: Vec<_> = problems
        .iter()
        .map(|problem| problem.message.as_str())
        .collect();
    assert_eq!(problems.len(), 6, "{text:?}");
    assert!(text[0].contains("`answer.headers.subject`: the name `authorization` already means"));
}

#[test]
fn settings_are_read_from_yaml_and_a_null_name_leaves_a_header_out() {
    let text = "headers:\n  tenant: null\n  subject: x-user\nown_trouble: envoy_error\nretry_after: 1500ms\n";
    let settings: AnswerSettings = serde_saphyr::from_str(text).unwrap();
    assert_eq!(settings.headers.tenant, None);
    assert_eq!(settings.headers.subject.as_deref(), Some("x-user"));
    assert_eq!(settings.headers.roles.as_deref(), Some("x-cardea-roles"));
    assert_eq!(settings.resolve().unwrap().retry_after, 2);
    assert!(serde_saphyr::from_str::<AnswerSettings>("unknown: 1\n").is_err());
}

/// Text as an attacker would choose it.
fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[a-z\r\n\0\t ,%\u{7f}\u{202e}\u{e9}]{0,24}",
        Just("alice\r\nx-inject: 1".to_owned()),
        Just(" padded ".to_owned()),
    ]
}

fn assert_clean(headers: &[HeaderValueOption]) {
    for option in headers {
        let header = option.header.as_ref().unwrap();
        assert!(
            header.value.bytes().all(|b| (0x20..0x7f).contains(&b)),
            "{:?}",
            header.value
        );
        assert!(header.raw_value.is_empty());
    }
}

proptest! {
    #[test]
    fn nothing_that_is_emitted_holds_a_control_byte(
        subject in hostile(),
        issuer in hostile(),
        tenant in hostile(),
        lists in proptest::collection::vec(hostile(), 0..5),
        policy in hostile(),
    ) {
        let mut attributes = identity();
        attributes.subject = subject;
        attributes.issuer = issuer.into();
        attributes.tenant = Some(tenant);
        attributes.roles.clone_from(&lists);
        attributes.scopes.clone_from(&lists);
        let mut decision = allowed(verified(attributes), &[]);
        decision.trail.determining = vec![policy.as_str().into()];
        let allow = answer(&decision, &answers());
        assert_clean(&ok(&allow).headers);
        let set: usize = ok(&allow).headers.iter().map(|h| h.header.as_ref().unwrap().value.len()).sum();
        prop_assert!(set <= 16 * 1024);
        for text in metadata_of(&allow).values() {
            prop_assert!(!text.chars().any(char::is_control));
        }
        let step_up = StepUp { acr_values: lists, max_age: Some(1) };
        decision.outcome = Outcome::Refused(Refusal::new(Reason::StepUpRequired(step_up), policy));
        let deny = answer(&decision, &answers());
        assert_clean(&denied(&deny).headers);
        prop_assert!(!denied(&deny).body.chars().any(char::is_control));
    }

    #[test]
    fn an_encoded_list_comes_apart_into_what_went_in(roles in proptest::collection::vec(".{1,8}", 1..5)) {
        let mut attributes = identity();
        attributes.roles.clone_from(&roles);
        let allow = answer(&allowed(verified(attributes), &[]), &answers());
        let set = map(&ok(&allow).headers);
        let decoded: Vec<String> = set["x-cardea-roles"]
            .split(',')
            .map(|role| percent_encoding::percent_decode_str(role).decode_utf8().unwrap().into_owned())
            .collect();
        prop_assert_eq!(decoded, roles);
    }
}

#[test]
fn a_challenge_names_the_ways_that_the_operation_knows() {
    use crate::model::Challenge;
    let key = || Challenge::ApiKey {
        header: "x-api-key".into(),
    };
    let challenge = |ways: &[Challenge], reason: Reason| {
        let mut decision = refusal(reason, false);
        decision.trail.challenges = ways.into();
        let answer = answer(&decision, &answers());
        map(&denied(&answer).headers)
            .remove("www-authenticate")
            .map(str::to_owned)
    };
    let missing = || Reason::CredentialMissing;
    let by_key = r#"ApiKey realm="cardea", in="header", name="x-api-key""#;
    assert_eq!(challenge(&[key()], missing()).as_deref(), Some(by_key));
    let unregistered = Reason::CredentialInvalid(CredentialFault::Unregistered);
    assert_eq!(
        challenge(&[key()], unregistered.clone()).as_deref(),
        Some(by_key)
    );
    let basic = r#"Basic realm="cardea", charset="UTF-8""#;
    assert_eq!(
        challenge(&[Challenge::Basic], missing()).as_deref(),
        Some(basic)
    );
    let all = format!(r#"Bearer realm="cardea", {by_key}, {basic}"#);
    let ways = [Challenge::Bearer, key(), Challenge::Basic];
    assert_eq!(challenge(&ways, missing()), Some(all.clone()));
    assert_eq!(
        challenge(&ways, unregistered),
        Some(all),
        "no token was wrong"
    );
    assert_eq!(challenge(&ways, Reason::NotPermitted), None);
    let step_up = challenge(&[key()], Reason::StepUpRequired(StepUp::default()));
    assert!(step_up.unwrap().starts_with("Bearer "));
}

#[test]
fn a_challenge_of_proofs_says_what_was_wrong_and_brings_the_nonce() {
    use crate::model::Challenge;
    let challenge = |reason: Reason| {
        let mut decision = refusal(reason, false);
        decision.trail.proof_nonce = Some("n-0nce".to_owned());
        let algorithms = "ES256 EdDSA".into();
        decision.trail.challenges = [Challenge::Bearer, Challenge::Dpop { algorithms }].into();
        let answer = answer(&decision, &answers());
        let headers = denied(&answer).headers.clone();
        let headers = map(&headers);
        assert_eq!(headers.get("dpop-nonce").copied(), Some("n-0nce"));
        headers
            .get("www-authenticate")
            .map(|text| (*text).to_owned())
    };
    let invalid = Reason::CredentialInvalid;
    for (reason, bearer, dpop) in [
        (Reason::CredentialMissing, "", ""),
        (
            invalid(CredentialFault::Proof),
            "",
            ", error=\"invalid_dpop_proof\"",
        ),
        (
            invalid(CredentialFault::Nonce),
            "",
            ", error=\"use_dpop_nonce\"",
        ),
        (
            invalid(CredentialFault::Possession),
            ", error=\"invalid_token\"",
            ", error=\"invalid_token\"",
        ),
        (invalid(CredentialFault::Password), "", ""),
    ] {
        let expected = format!(
            "Bearer realm=\"cardea\"{bearer}, DPoP realm=\"cardea\"{dpop}, algs=\"ES256 EdDSA\""
        );
        assert_eq!(challenge(reason), Some(expected));
    }
    assert_eq!(challenge(Reason::NotPermitted), None);
}

#[test]
fn a_request_that_passes_may_bring_its_sender_a_nonce_and_loses_its_proof_with_its_token() {
    use crate::model::Challenge;
    let mut decision = allowed(verified(identity()), &["dpop"]);
    decision.trail.proof_nonce = Some("n-0nce".to_owned());
    let algorithms = "ES256".into();
    decision.trail.challenges = [Challenge::Dpop { algorithms }].into();
    let settings = AnswerSettings {
        credential: Credential::Remove,
        ..AnswerSettings::default()
    };
    let answer = answer(&decision, &settings.resolve().unwrap());
    let Some(HttpResponse::OkResponse(ok)) = &answer.wire().http_response else {
        panic!("{answer:?}");
    };
    assert_eq!(map(&ok.response_headers_to_add)["dpop-nonce"], "n-0nce");
    assert!(ok.headers_to_remove.contains(&"dpop".to_owned()));
}

#[test]
fn an_api_key_is_removed_with_the_other_credential() {
    use crate::model::Challenge;
    let mut decision = allowed(verified(identity()), &["x-api-key"]);
    decision.trail.challenges = [Challenge::ApiKey {
        header: "x-api-key".into(),
    }]
    .into();
    let removed = |credential| {
        let settings = AnswerSettings {
            credential,
            ..AnswerSettings::default()
        };
        let answer = answer(&decision, &settings.resolve().unwrap());
        let Some(HttpResponse::OkResponse(ok)) = &answer.wire().http_response else {
            panic!("{answer:?}");
        };
        let names = ["authorization", "x-api-key"].map(str::to_owned);
        names.map(|name| ok.headers_to_remove.contains(&name))
    };
    assert_eq!(removed(Credential::Keep), [false, false]);
    assert_eq!(removed(Credential::Remove), [true, true]);
}
