use std::time::Duration;

use rcgen::{
    CertificateParams, DnType, DnValue, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    KeyUsagePurpose, NameConstraints, SanType, date_time_ymd,
};
use serde_json::json;

use super::super::testing::{Idp, Reply, TestKey, b64, bearing, jwks};
use super::super::{
    CertificateSettings, ForwardedHeader, RouteSettings, SchemeName, Settings, TrustDomainSettings,
    WithoutCrl,
};
use super::presented::sha256;
use super::testing::*;
use crate::model::{AccessRequest, Binding, CredentialFault as Fault, Period, Reason};

const XFCC: &str = "x-forwarded-client-cert";
const HOP: &str = "10.0.3.7";

type Change = fn(&mut CertificateParams);

fn refused_as_certificate() -> Result<String, Reason> {
    invalid(Fault::Certificate)
}

#[tokio::test]
async fn a_workload_is_known_by_its_spiffe_id() {
    let authority = Authority::new("root");
    let room = Room::open(settings(&authority));
    let der = authority.issue_with(0xabc, &[uri(WEB), dns("Web.shop")], |params| {
        params.distinguished_name.push(DnType::CommonName, "a, b");
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Shop");
    });
    assert_eq!(room.shown(&der).await, workload(WEB));
    let holder = room.holder(&der).await;
    let spiffe = holder.spiffe.as_ref().unwrap();
    assert_eq!(spiffe.service_account(), Some(("shop", "web")));
    assert_eq!(holder.scheme, "certificate");
    assert_eq!(holder.expires_at, "2031-01-01T00:00:00Z".parse().unwrap());
    assert_eq!(holder.binding, sha256(&der).map(Binding::Certificate));
    assert!(holder.sender_constrained() && !holder.mfa);
    for (claim, value) in [
        ("x509.san.uri", WEB),
        ("x509.san.dns", "Web.shop"),
        ("x509.subject.cn", "a, b"),
        ("x509.issuer", "CN=root"),
        ("x509.serial", "0abc"),
    ] {
        assert_eq!(holder.claims[claim], [value], "{claim}");
    }
    let subject = holder.claims["x509.subject"].join("");
    assert!(
        subject.contains(r"CN=a\, b") && subject.contains("O=Shop"),
        "{subject}"
    );
    assert_eq!(room.identity.figures().judged, 1);
}

#[tokio::test]
async fn x4_names_that_can_be_read_in_two_ways_are_nobodys() {
    let authority = Authority::new("root");
    let settings = CertificateSettings {
        names: names(
            &authority,
            "[{from: dns, issuer: partners}, {from: email, issuer: people, principal: user}]",
        ),
        ..settings(&authority)
    };
    let room = Room::open(settings);
    let other = "spiffe://example.com/ns/shop/sa/other";
    let many: Vec<SanType> = (0..65).map(|n| dns(&format!("n{n}.example"))).collect();
    for names in [
        vec![uri(WEB), uri(other)],
        vec![uri(WEB), uri("https://example.com/")],
        vec![
            uri("https://a.example/"),
            uri("https://b.example/"),
            dns("a.example"),
        ],
        vec![uri("spiffe://example.com/victim\0evil")],
        vec![uri(WEB), dns("victim\0evil")],
        vec![uri("SPIFFE://example.com/ns/shop/sa/web"), dns("a.example")],
        vec![uri("spiffe://example.com/ns/../web")],
        vec![uri("spiffe://example.com/w%65b")],
        vec![uri("spiffe://example.com")],
        vec![dns("*.partner.example")],
        vec![dns("a.example"), dns("b.example")],
        vec![dns("victim.example\0.evil.example")],
        vec![dns("a b")],
        vec![dns("")],
        vec![email("a@b@c")],
        vec![email("@example")],
        vec![],
        many,
    ] {
        let der = authority.issue(1, &names);
        assert_eq!(
            room.shown(&der).await,
            refused_as_certificate(),
            "{names:?}"
        );
    }
}

#[tokio::test]
async fn a_trust_domain_that_is_not_configured_is_nobodys() {
    let authority = Authority::new("root");
    let room = Room::open(settings(&authority));
    for id in ["spiffe://evil.com/web", "spiffe://example.com.evil.com/web"] {
        let der = authority.issue(1, &[uri(id)]);
        assert_eq!(room.shown(&der).await, invalid(Fault::Issuer), "{id}");
    }
}

#[tokio::test]
async fn an_authority_vouches_for_its_own_trust_domain_only() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let room = Room::open(CertificateSettings {
        trust_domains: vec![
            domain(DOMAIN, &[ours.file()]),
            domain("partner.example", &[theirs.file()]),
        ],
        ..CertificateSettings::default()
    });
    assert_eq!(room.shown(&ours.issue(1, &[uri(WEB)])).await, workload(WEB));
    let forged = theirs.issue(1, &[uri(WEB)]);
    assert_eq!(room.shown(&forged).await, invalid(Fault::Issuer));
    // The same name, another key.
    let twin = Authority::new("ours").issue(1, &[uri(WEB)]);
    assert_eq!(room.shown(&twin).await, invalid(Fault::Signature));
}

#[tokio::test]
async fn a_certificate_counts_from_its_beginning_to_its_end() {
    let authority = Authority::new("root");
    let room = Room::open(settings(&authority));
    let dated = |from, until| {
        authority.issue_with(1, &[uri(WEB)], |params| {
            params.not_before = date_time_ymd(from, 1, 1);
            params.not_after = date_time_ymd(until, 1, 1);
        })
    };
    assert_eq!(
        room.shown(&dated(2028, 2030)).await,
        invalid(Fault::Expired)
    );
    assert_eq!(
        room.shown(&dated(2031, 2033)).await,
        invalid(Fault::NotYetValid)
    );
    assert_eq!(
        room.shown(&dated(2033, 2031)).await,
        refused_as_certificate()
    );
    let good = dated(2029, 2031);
    assert_eq!(room.shown(&good).await, workload(WEB));
    // Remembered or not: at its end it ends, but for what the clocks may differ.
    let end = "2031-01-01T00:00:00Z".parse::<jiff::Timestamp>().unwrap();
    let left = end.duration_since(arrival_time(&room)).unsigned_abs();
    room.clock.advance(left + Duration::from_secs(29));
    assert_eq!(room.shown(&good).await, workload(WEB));
    room.clock.advance(Duration::from_secs(2));
    assert_eq!(room.shown(&good).await, invalid(Fault::Expired));
}

fn arrival_time(room: &Room) -> jiff::Timestamp {
    use crate::model::Clock;
    room.clock.now()
}

#[tokio::test]
async fn a_certificate_of_an_authority_or_for_servers_is_no_clients() {
    let authority = Authority::new("root");
    let room = Room::open(settings(&authority));
    let changes: [Change; 3] = [
        |params| params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained),
        |params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign],
        |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
    ];
    for change in changes {
        let der = authority.issue_with(1, &[uri(WEB)], change);
        assert_eq!(room.shown(&der).await, refused_as_certificate());
    }
    let der = authority.issue_with(1, &[uri(WEB)], |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    });
    assert_eq!(room.shown(&der).await, workload(WEB));
}

#[tokio::test]
async fn x4_an_authority_vouches_within_its_name_constraints_only() {
    let authority = Authority::with("root", |params| {
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("partner.example".into())],
            excluded_subtrees: vec![],
        });
    });
    let room = Room::open(CertificateSettings {
        names: names(&authority, "[{from: dns, issuer: partners}]"),
        ..CertificateSettings::default()
    });
    let inside = authority.issue(1, &[dns("a.partner.example")]);
    assert_eq!(
        room.shown(&inside).await,
        Ok("Client partners|a.partner.example".into())
    );
    for name in ["a.other.example", "*.partner.example"] {
        let der = authority.issue(1, &[dns(name)]);
        assert_eq!(room.shown(&der).await, refused_as_certificate(), "{name}");
    }
}

#[tokio::test]
async fn without_a_spiffe_id_the_settings_say_which_name_counts() {
    let authority = Authority::new("root");
    let rules = "[{from: email, issuer: people, principal: user}, {from: dns, issuer: partners}, \
                  {from: common_name, issuer: old, principal: client}]";
    let room = Room::open(CertificateSettings {
        names: names(&authority, rules),
        ..CertificateSettings::default()
    });
    let common = |name: &str| {
        let name = name.to_owned();
        move |params: &mut CertificateParams| {
            params.distinguished_name.push(DnType::CommonName, name);
        }
    };
    for (names, expected) in [
        (
            vec![email("Ann@example.com"), dns("a.example")],
            "User people|Ann@example.com",
        ),
        (
            vec![dns("A.Partner.example")],
            "Client partners|a.partner.example",
        ),
        (vec![uri("https://example.com/x")], "Client old|printer 7"),
        (vec![], "Client old|printer 7"),
    ] {
        let der = authority.issue_with(1, &names, common("printer 7"));
        assert_eq!(room.shown(&der).await, Ok(expected.to_owned()));
    }
    // Nobody asked for common names.
    let strict = Room::open(CertificateSettings {
        names: self::names(&authority, "[{from: dns, issuer: partners}]"),
        ..CertificateSettings::default()
    });
    let der = authority.issue_with(1, &[], common("a.example"));
    assert_eq!(strict.shown(&der).await, refused_as_certificate());
}

#[tokio::test]
async fn x4_a_distinguished_name_with_a_control_character_is_refused() {
    let authority = Authority::new("root");
    let room = Room::open(settings(&authority));
    let der = authority.issue_with(1, &[uri(WEB)], |params| {
        let name = DnValue::Utf8String("a\0b".to_owned());
        params.distinguished_name.push(DnType::CommonName, name);
    });
    assert_eq!(room.shown(&der).await, refused_as_certificate());
}

#[tokio::test]
async fn what_is_no_certificate_is_refused() {
    let authority = Authority::new("root");
    let room = Room::open(settings(&authority));
    let der = authority.issue(1, &[uri(WEB)]);
    for length in [0, 1, 20, 200, der.len() - 1] {
        let request = showing(&der[..length]);
        let expected = if length == 0 {
            Ok("nobody".to_owned())
        } else {
            refused_as_certificate()
        };
        assert_eq!(room.told(&request).await, expected, "{length}");
    }
    let mut more = der.clone();
    more.push(0);
    assert_eq!(room.shown(&more).await, refused_as_certificate());
}

#[tokio::test]
async fn a_name_without_its_certificate_is_believed_only_where_the_settings_say_so() {
    let authority = Authority::new("root");
    let named = |name: &str| {
        let mut request = showing(&[]);
        request.peer.certificate = None;
        request.peer.principal = Some(name.to_owned());
        request
    };
    let room = Room::open(settings(&authority));
    assert_eq!(room.told(&named(WEB)).await, refused_as_certificate());
    let lax = CertificateSettings {
        trust_domains: vec![
            domain(DOMAIN, &[]),
            domain("strict.example", &[authority.file()]),
        ],
        validated_elsewhere: true,
        require_certificate: false,
        ..CertificateSettings::default()
    };
    let room = Room::open(lax);
    assert_eq!(room.told(&named(WEB)).await, workload(WEB));
    for name in [
        "a.example",
        "spiffe://strict.example/web",
        "spiffe://example.com/a\0b",
        "0",
    ] {
        assert_eq!(
            room.told(&named(name)).await,
            refused_as_certificate(),
            "{name}"
        );
    }
    assert_eq!(
        room.told(&named("spiffe://evil.com/web")).await,
        invalid(Fault::Issuer)
    );
}

#[tokio::test]
async fn what_envoy_validated_needs_no_authority_here_where_the_settings_say_so() {
    let room = Room::open(CertificateSettings {
        trust_domains: vec![domain(DOMAIN, &[])],
        validated_elsewhere: true,
        ..CertificateSettings::default()
    });
    let der = Authority::new("unknown here").issue(1, &[uri(WEB)]);
    assert_eq!(room.shown(&der).await, workload(WEB));
}

#[tokio::test]
async fn a_revoked_certificate_is_refused() {
    let authority = Authority::new("root");
    authority.revoke(&[7], 2030);
    let room = Room::open(CertificateSettings {
        crl_files: vec![authority.list_file()],
        ..settings(&authority)
    });
    let (good, revoked) = (
        authority.issue(8, &[uri(WEB)]),
        authority.issue(7, &[uri(WEB)]),
    );
    assert_eq!(room.shown(&revoked).await, invalid(Fault::Revoked));
    assert_eq!(room.shown(&good).await, workload(WEB));
}

#[tokio::test]
async fn a_new_revocation_list_ends_what_was_remembered() {
    let authority = Authority::new("root");
    authority.revoke(&[], 2030);
    let room = Room::open(CertificateSettings {
        crl_files: vec![authority.list_file()],
        ..settings(&authority)
    });
    let der = authority.issue(0x80, &[uri(WEB)]);
    assert_eq!(room.shown(&der).await, workload(WEB));
    authority.revoke(&[0x80], 2030);
    room.identity.refresh().await;
    assert_eq!(room.shown(&der).await, invalid(Fault::Revoked));
    // A broken file changes nothing, and the refusal ends with a list that says otherwise.
    write(&authority.list_file(), "-----BEGIN X509 CRL-----\nAAAA\n");
    room.identity.refresh().await;
    assert_eq!(room.shown(&der).await, invalid(Fault::Revoked));
    authority.revoke(&[], 2030);
    room.identity.refresh().await;
    assert_eq!(room.shown(&der).await, workload(WEB));
}

#[tokio::test]
async fn without_a_list_in_force_nobody_is_believed_unless_the_settings_say_so() {
    let (authority, other) = (Authority::new("root"), Authority::new("other"));
    let der = authority.issue(7, &[uri(WEB)]);
    let unavailable = Err(Reason::KeysUnavailable);
    let with = |lists: &Authority, without_crl| CertificateSettings {
        trust_domains: vec![domain(DOMAIN, &[authority.file(), other.file()])],
        crl_files: vec![lists.list_file()],
        without_crl,
        ..CertificateSettings::default()
    };
    // Out of date.
    authority.revoke(&[9], 2029);
    let room = Room::open(with(&authority, WithoutCrl::Refuse));
    assert_eq!(room.shown(&der).await, unavailable);
    let revoked = authority.issue(9, &[uri(WEB)]);
    assert_eq!(room.shown(&revoked).await, invalid(Fault::Revoked));
    let room = Room::open(with(&authority, WithoutCrl::Accept));
    assert_eq!(room.shown(&der).await, workload(WEB));
    assert_eq!(room.shown(&revoked).await, invalid(Fault::Revoked));
    // Of another issuer.
    other.revoke(&[7], 2030);
    let room = Room::open(with(&other, WithoutCrl::Refuse));
    assert_eq!(room.shown(&der).await, unavailable);
    let room = Room::open(with(&other, WithoutCrl::Accept));
    assert_eq!(room.shown(&der).await, workload(WEB));
}

#[tokio::test]
async fn what_is_remembered_ends_with_the_revocation_list() {
    let authority = Authority::new("root");
    authority.revoke(&[], 2030);
    let settings = CertificateSettings {
        crl_files: vec![authority.list_file()],
        ..settings(&authority)
    };
    let room = Room::open(settings);
    let der = authority.issue(7, &[uri(WEB)]);
    let end = "2030-12-31T00:00:00Z".parse::<jiff::Timestamp>().unwrap();
    let left = end.duration_since(arrival_time(&room)).unsigned_abs();
    room.clock
        .advance(left.saturating_sub(Duration::from_secs(5)));
    assert_eq!(room.shown(&der).await, workload(WEB));
    room.clock.advance(Duration::from_secs(5));
    assert_eq!(room.shown(&der).await, Err(Reason::KeysUnavailable));
}

#[tokio::test]
async fn lists_and_authorities_that_cannot_be_used_are_told_at_start() {
    let (authority, other) = (Authority::new("root"), Authority::new("root"));
    let start = |certificates: CertificateSettings| {
        let clock: std::sync::Arc<dyn crate::model::Clock> = super::super::testing::clock();
        let settings = Settings {
            certificates: Some(certificates),
            ..Settings::default()
        };
        let handle = tokio::runtime::Handle::current();
        let started = super::super::Identity::<()>::start(&settings, clock, &handle);
        let problems = started.map(drop).unwrap_err();
        problems
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n")
    };
    let with_list = |text: &str| {
        write(&authority.list_file(), text);
        start(CertificateSettings {
            crl_files: vec![authority.list_file()],
            ..settings(&authority)
        })
    };
    assert!(with_list(&other.list(&[], 2030)).contains("signed by none"));
    assert!(with_list("nothing").contains("neither DER nor PEM"));
    let cut = authority
        .list(&[], 2030)
        .replace("-----END", "AAAA\n-----END");
    assert!(with_list(&cut).contains("revocation list"));
    let missing = CertificateSettings {
        crl_files: vec!["/nowhere/list.crl".into()],
        trust_domains: vec![domain(DOMAIN, &["/nowhere/ca.pem".into()])],
        ..CertificateSettings::default()
    };
    let told = start(missing);
    assert!(
        told.contains("list.crl") && told.contains("ca.pem"),
        "{told}"
    );
    write(&authority.file(), "nothing");
    assert!(start(settings(&authority)).contains("no certificate in PEM"));
}

#[tokio::test]
async fn x4_what_a_client_sends_as_forwarded_is_not_looked_at() {
    let authority = Authority::new("root");
    let der = authority.issue(1, &[uri(WEB)]);
    let value = format!("Cert=\"{}\"", pem(&der));
    let nobody = Ok("nobody".to_owned());
    let unset = Room::open(settings(&authority));
    let request = passed_on(HOP, &[(XFCC, &value)]);
    assert_eq!(unset.told(&request).await, nobody);
    let room = Room::open(CertificateSettings {
        forwarded: Some(forwarded(ForwardedHeader::XForwardedClientCert)),
        ..settings(&authority)
    });
    assert_eq!(room.told(&request).await, workload(WEB));
    for (from, value) in [("10.0.4.7", &*value), ("192.0.2.1", "garbage;;")] {
        let request = passed_on(from, &[(XFCC, value)]);
        assert_eq!(room.told(&request).await, nobody, "{from}");
    }
    let mut unknown = passed_on(HOP, &[(XFCC, &value)]);
    unknown.peer.address = None;
    assert_eq!(room.told(&unknown).await, nobody);
    // The other header is not the configured one.
    let request = passed_on(HOP, &[("client-cert", &sequence(&der))]);
    assert_eq!(room.told(&request).await, nobody);
}

#[tokio::test]
async fn x6_behind_a_hop_the_hops_own_certificate_is_nobodys() {
    let authority = Authority::new("root");
    let room = Room::open(CertificateSettings {
        forwarded: Some(forwarded(ForwardedHeader::XForwardedClientCert)),
        ..settings(&authority)
    });
    let hop = authority.issue(1, &[uri("spiffe://example.com/ns/edge/sa/hop")]);
    let mut request = passed_on(HOP, &[]);
    request.peer.certificate = Some(hop.clone());
    assert_eq!(room.told(&request).await, Ok("nobody".to_owned()));
    // This Envoy appended the hop itself.
    for value in [
        format!("Cert=\"{}\"", pem(&hop)),
        format!(
            "Hash={};URI=spiffe://example.com/ns/edge/sa/hop",
            hex(&sha256(&hop).unwrap())
        ),
    ] {
        let mut request = passed_on(HOP, &[(XFCC, &value)]);
        request.peer.certificate = Some(hop.clone());
        assert_eq!(room.told(&request).await, Err(Reason::AmbiguousCredential));
    }
}

#[tokio::test]
async fn x4_a_forwarded_certificate_has_one_reading_or_is_refused() {
    let authority = Authority::new("root");
    let room = Room::open(CertificateSettings {
        forwarded: Some(forwarded(ForwardedHeader::XForwardedClientCert)),
        ..settings(&authority)
    });
    let der = authority.issue(1, &[uri(WEB)]);
    let other = authority.issue(2, &[uri("spiffe://example.com/other")]);
    let (web, hash) = (pem(&der), hex(&sha256(&der).unwrap()));
    let good = format!(
        "By=spiffe://example.com/edge;Hash={hash};Cert=\"{web}\";Subject=\"CN=a,b;c\";URI={WEB};DNS=a"
    );
    assert_eq!(
        room.told(&passed_on(HOP, &[(XFCC, &good)])).await,
        workload(WEB)
    );
    let wrong = hex(&sha256(&other).unwrap());
    for (value, reason) in [
        (
            format!("Hash={wrong};Cert=\"{web}\""),
            Reason::CredentialInvalid(Fault::Certificate),
        ),
        (
            format!("Cert=\"{web}\";Cert=\"{web}\""),
            Reason::CredentialInvalid(Fault::Certificate),
        ),
        (
            format!("Cert=\"{web}{}\"", pem(&other)),
            Reason::CredentialInvalid(Fault::Certificate),
        ),
        (
            format!("Cert=\"{web}\";Chain=\"{}\"", pem(&other)),
            Reason::CredentialInvalid(Fault::Certificate),
        ),
        (
            "Cert=\"garbage\"".to_owned(),
            Reason::CredentialInvalid(Fault::Certificate),
        ),
        (
            format!("URI={WEB}"),
            Reason::CredentialInvalid(Fault::Certificate),
        ),
        (String::new(), Reason::CredentialInvalid(Fault::Certificate)),
        (format!("{good},{good}"), Reason::AmbiguousCredential),
    ] {
        let request = passed_on(HOP, &[(XFCC, &value)]);
        assert_eq!(room.told(&request).await, Err(reason), "{value}");
    }
    let twice = passed_on(HOP, &[(XFCC, &good), (XFCC, &good)]);
    assert_eq!(room.told(&twice).await, Err(Reason::AmbiguousCredential));
    let long = format!("Cert=\"{}\"", "a".repeat(65 * 1024));
    let long = passed_on(HOP, &[(XFCC, &long)]);
    assert_eq!(room.told(&long).await, refused_as_certificate());
}

#[tokio::test]
async fn of_several_connections_the_nearest_hops_counts_where_the_settings_say_so() {
    let authority = Authority::new("root");
    let mut hops = forwarded(ForwardedHeader::XForwardedClientCert);
    hops.last_of_several = true;
    let room = Room::open(CertificateSettings {
        forwarded: Some(hops),
        ..settings(&authority)
    });
    let der = authority.issue(1, &[uri(WEB)]);
    let evil = authority.issue(2, &[uri("spiffe://example.com/admin")]);
    let value = format!("Cert=\"{}\", Cert=\"{}\"", pem(&evil), pem(&der));
    assert_eq!(
        room.told(&passed_on(HOP, &[(XFCC, &value)])).await,
        workload(WEB)
    );
}

#[tokio::test]
async fn rfc9440_certificates_and_their_chains_are_read() {
    let authority = Authority::new("root");
    let room = Room::open(CertificateSettings {
        forwarded: Some(forwarded(ForwardedHeader::ClientCert)),
        ..settings(&authority)
    });
    let below = authority.below(|_| {});
    let der = leaf(&below, (1, &[uri(WEB)]), |_| {});
    let (own, chain) = (sequence(&der), sequence(below.der()));
    let (own, chain) = (("client-cert", &*own), ("client-cert-chain", &*chain));
    assert_eq!(
        room.told(&passed_on(HOP, &[own, chain])).await,
        workload(WEB)
    );
    assert_eq!(
        room.told(&passed_on(HOP, &[own])).await,
        invalid(Fault::Issuer)
    );
    let both = format!("{},{}", own.1, own.1);
    for fields in [
        vec![chain],
        vec![("client-cert", "garbage")],
        vec![("client-cert", ":AAAA:")],
        vec![("client-cert", &*both)],
        vec![own, ("client-cert-chain", ":AAAA:")],
    ] {
        let request = passed_on(HOP, &fields);
        assert_eq!(room.told(&request).await, refused_as_certificate());
    }
    let twice = passed_on(HOP, &[own, own]);
    assert_eq!(room.told(&twice).await, Err(Reason::AmbiguousCredential));
    // An intermediate authority ends before the client's certificate does.
    let below = authority.below(|params| params.not_after = date_time_ymd(2029, 6, 1));
    let der = leaf(&below, (1, &[uri(WEB)]), |_| {});
    let fields = [
        ("client-cert", &*sequence(&der)),
        ("client-cert-chain", &*sequence(below.der())),
    ];
    assert_eq!(
        room.told(&passed_on(HOP, &fields)).await,
        invalid(Fault::Expired)
    );
}

#[tokio::test]
async fn a_revoked_authority_between_takes_its_clients_with_it() {
    let authority = Authority::new("root");
    let below = authority.below(|params| {
        params.serial_number = Some(rcgen::SerialNumber::from(5));
    });
    authority.revoke(&[5], 2030);
    let room = Room::open(CertificateSettings {
        forwarded: Some(forwarded(ForwardedHeader::ClientCert)),
        crl_files: vec![authority.list_file()],
        without_crl: WithoutCrl::Accept,
        ..settings(&authority)
    });
    let der = leaf(&below, (1, &[uri(WEB)]), |_| {});
    let fields = [
        ("client-cert", &*sequence(&der)),
        ("client-cert-chain", &*sequence(below.der())),
    ];
    assert_eq!(
        room.told(&passed_on(HOP, &fields)).await,
        invalid(Fault::Revoked)
    );
}

/// A room with an issuer of tokens beside the authority.
async fn both(authority: &Authority, combine: bool) -> (Room, TestKey, Idp) {
    let key = TestKey::es256("k1");
    let idp = Idp::start(Reply::Status(200, jwks(&[&key]))).await;
    let (jwt, certificate) = (SchemeName::Jwt, SchemeName::Certificate);
    let rule = RouteSettings {
        schemes: vec![jwt, certificate],
        combine: vec![(jwt, certificate)],
        ..RouteSettings::default()
    };
    let room = Room::with(&Settings {
        issuers: vec![idp.settings()],
        certificates: Some(settings(authority)),
        routes: if combine { vec![rule] } else { Vec::new() },
        ..Settings::default()
    });
    let mut ready = room.identity.readiness();
    ready.wait_for(|ready| *ready).await.unwrap();
    (room, key, idp)
}

fn beside(token: &str, der: &[u8]) -> AccessRequest {
    let mut request = bearing(token);
    request.peer.certificate = Some(der.to_vec());
    request
}

#[tokio::test]
async fn h5_a_token_and_a_certificate_name_two_callers_unless_a_rule_combines_them() {
    let authority = Authority::new("root");
    let der = authority.issue(1, &[uri(WEB)]);
    let (room, key, _idp) = both(&authority, false).await;
    let identified = room.ask(&beside(&key.token("alice"), &der)).await;
    assert_eq!(told(&identified), Err(Reason::AmbiguousCredential));
    assert_eq!(identified.beside.len(), 2, "both are recorded");
    let (room, key, _idp) = both(&authority, true).await;
    for _ in 0..2 {
        let identified = room.ask(&beside(&key.token("alice"), &der)).await;
        assert_eq!(
            told(&identified),
            Ok("User https://idp.example|alice".into())
        );
        let certified = identified.certified().unwrap();
        assert_eq!(certified.attributes().unwrap().subject, WEB);
    }
    // A bad certificate is not passed over because the token is good.
    let stranger = Authority::new("stranger").issue(1, &[uri(WEB)]);
    let request = beside(&key.token("alice"), &stranger);
    assert_eq!(room.told(&request).await, invalid(Fault::Issuer));
    let alone = room.ask(&bearing(&key.token("alice"))).await;
    assert!(alone.certified().is_none());
}

#[tokio::test]
async fn a_bound_token_needs_the_certificate_of_its_own_client_behind_a_hop_too() {
    let authority = Authority::new("root");
    let key = TestKey::es256("k1");
    let idp = Idp::start(Reply::Status(200, jwks(&[&key]))).await;
    let room = Room::with(&Settings {
        issuers: vec![idp.settings()],
        certificates: Some(CertificateSettings {
            forwarded: Some(forwarded(ForwardedHeader::XForwardedClientCert)),
            ..settings(&authority)
        }),
        routes: vec![RouteSettings {
            schemes: vec![SchemeName::Jwt],
            ..RouteSettings::default()
        }],
        ..Settings::default()
    });
    let mut ready = room.identity.readiness();
    ready.wait_for(|ready| *ready).await.unwrap();
    let der = authority.issue(1, &[uri(WEB)]);
    let other = authority.issue(2, &[uri("spiffe://example.com/other")]);
    let digest = sha256(&der).unwrap();
    let token = key.token_with(json!({ "sub": "alice", "cnf": { "x5t#S256": b64(digest) } }));
    let ask = |from: &str, value: String, connection: Option<&[u8]>| {
        let bearer = format!("Bearer {token}");
        let mut request = passed_on(from, &[(XFCC, &value), ("authorization", &bearer)]);
        request.peer.certificate = connection.map(<[u8]>::to_vec);
        request
    };
    let alice = Ok("User https://idp.example|alice".to_owned());
    let cert = |der: &[u8]| format!("Cert=\"{}\"", pem(der));
    for (request, expected) in [
        (ask(HOP, cert(&der), None), alice.clone()),
        (ask(HOP, cert(&der), Some(&other)), alice.clone()),
        (
            ask(HOP, format!("Hash={};URI={WEB}", hex(&digest)), None),
            alice.clone(),
        ),
        (ask(HOP, cert(&other), None), invalid(Fault::Possession)),
        (
            ask(HOP, format!("URI={WEB}"), None),
            invalid(Fault::Possession),
        ),
        // A client says what only a hop may say.
        (
            ask("192.0.2.1", cert(&der), None),
            invalid(Fault::Possession),
        ),
        (ask("192.0.2.1", cert(&other), Some(&der)), alice.clone()),
        (
            ask("192.0.2.1", cert(&der), Some(&other)),
            invalid(Fault::Possession),
        ),
    ] {
        assert_eq!(room.told(&request).await, expected);
    }
}

#[test]
fn settings_that_cannot_be_meant_are_told_all_at_once() {
    let told = |settings: CertificateSettings| {
        let settings = Settings {
            certificates: Some(settings),
            ..Settings::default()
        };
        let problems = settings.problems();
        problems.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(told(CertificateSettings::default()).len(), 1);
    let wrong: CertificateSettings = serde_saphyr::from_str(
        "{trust_domains: [{name: A.com}, {name: A.com}], \
          names: [{issuer: 'a|b'}, {issuer: 'spiffe://a'}, {}], \
          require_certificate: false, crl_files: [x], clock_skew: 61s, reload_interval: 0s, \
          forwarded: {header: client-cert, from: ['0.0.0.0/0', x, 10.0.0.1/8], last_of_several: true}}",
    )
    .unwrap();
    let problems = told(wrong);
    for place in [
        "trust_domains[0].name",
        "trust_domains[0].ca_files",
        "trust_domains[1].name` is listed twice",
        "names[0].issuer",
        "names[0].ca_files",
        "names[1].issuer",
        "names[2].issuer",
        "require_certificate` is false, but without",
        "require_certificate` is false, but `crl_files`",
        "clock_skew",
        "reload_interval",
        "forwarded.from[0]",
        "forwarded.from[1]",
        "forwarded.from[2]",
        "forwarded.last_of_several",
    ] {
        let found = problems.iter().any(|problem| problem.contains(place));
        assert!(found, "{place}: {problems:#?}");
    }
    let nowhere: CertificateSettings = serde_saphyr::from_str(
        "{trust_domains: [{name: a.com}], validated_elsewhere: true, forwarded: {}}",
    )
    .unwrap();
    assert_eq!(told(nowhere).len(), 1);
    let good = CertificateSettings {
        trust_domains: vec![TrustDomainSettings {
            name: DOMAIN.to_owned(),
            ca_files: Vec::new(),
        }],
        validated_elsewhere: true,
        reload_interval: Period::seconds(1),
        ..CertificateSettings::default()
    };
    assert_eq!(told(good), Vec::<String>::new());
}
