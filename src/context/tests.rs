use std::net::IpAddr;

use super::*;
use crate::model::{CanonicalPath, Clock, Host, PathRules, SystemClock};

fn request(address: Option<&str>) -> AccessRequest {
    AccessRequest {
        client_address: address.map(|text| text.parse().unwrap()),
        ..AccessRequest::bare(
            Host::parse("api.example.com").unwrap(),
            CanonicalPath::parse("/", PathRules::default()).unwrap(),
        )
    }
}

fn arrival(at: &str) -> Arrival {
    Arrival {
        at: at.parse().unwrap(),
        started: SystemClock.monotonic(),
        deadline: None,
        trace_parent: None,
        grpc: false,
    }
}

fn context(networks: &[&str], time_zone: &str) -> Context {
    Context::new(&Settings {
        trusted_networks: networks.iter().map(|text| (*text).to_owned()).collect(),
        time_zone: time_zone.to_owned(),
        ..Settings::default()
    })
    .unwrap()
}

fn problems(networks: &[&str], time_zone: &str) -> Vec<String> {
    let settings = Settings {
        trusted_networks: networks.iter().map(|text| (*text).to_owned()).collect(),
        time_zone: time_zone.to_owned(),
        ..Settings::default()
    };
    settings
        .problems()
        .iter()
        .map(ToString::to_string)
        .collect()
}

const NOON: &str = "2026-11-21T12:00:00Z";

#[test]
fn an_address_is_trusted_exactly_within_the_trusted_networks() {
    let context = context(
        &[
            "10.20.0.0/16",
            "10.20.128.0/17",
            "192.0.2.7/32",
            "2001:db8:7::/48",
            "10.21.0.0/16",
        ],
        "UTC",
    );
    for (address, trusted) in [
        ("10.20.0.0", true),
        ("10.20.255.255", true),
        ("10.21.3.4", true),
        ("10.19.255.255", false),
        ("10.22.0.0", false),
        ("192.0.2.7", true),
        ("192.0.2.6", false),
        ("192.0.2.8", false),
        ("0.0.0.0", false),
        ("255.255.255.255", false),
        ("2001:db8:7::1", true),
        ("2001:db8:7:ffff:ffff:ffff:ffff:ffff", true),
        ("2001:db8:8::", false),
        ("::", false),
        ("::10.20.0.1", false),
    ] {
        let facts = context.gather(&request(Some(address)), &arrival(NOON));
        assert_eq!(facts.network.ip_trusted, trusted, "{address}");
    }
}

#[test]
fn x6_an_ipv4_mapped_address_is_the_ipv4_address() {
    let context = context(&["10.20.0.0/16"], "UTC");
    let facts = context.gather(&request(Some("::ffff:10.20.0.1")), &arrival(NOON));
    assert_eq!(facts.network.ip, Some(IpAddr::from([10, 20, 0, 1])));
    assert!(facts.network.ip_trusted);
}

#[test]
fn x6_a_client_without_an_address_is_not_trusted() {
    let context = context(&["10.0.0.0/8", "::/1"], "UTC");
    let facts = context.gather(&request(None), &arrival(NOON));
    assert_eq!((facts.network.ip, facts.network.ip_trusted), (None, false));
}

#[test]
fn no_network_is_trusted_by_default() {
    let context = Context::new(&Settings::default()).unwrap();
    for address in ["127.0.0.1", "::1", "10.0.0.1"] {
        let facts = context.gather(&request(Some(address)), &arrival(NOON));
        assert!(!facts.network.ip_trusted, "{address}");
    }
}

#[test]
fn local_time_and_weekday_are_those_of_the_wall_clock() {
    let berlin = context(&[], "Europe/Berlin");
    for (at, local, weekday) in [
        ("2026-11-21T12:00:00Z", "13:00:00", 6),
        ("2026-07-01T22:30:15.5Z", "00:30:15.5", 4),
        ("2026-11-22T23:00:00Z", "00:00:00", 1),
        // Clocks go forward at 02:00 and back at 03:00: the hour jumps, then repeats.
        ("2026-03-29T00:59:59Z", "01:59:59", 7),
        ("2026-03-29T01:00:00Z", "03:00:00", 7),
        ("2026-10-25T00:30:00Z", "02:30:00", 7),
        ("2026-10-25T01:30:00Z", "02:30:00", 7),
        ("1969-12-31T22:59:59.999Z", "23:59:59.999", 3),
    ] {
        let moment = berlin.gather(&request(None), &arrival(at)).moment;
        let time: jiff::civil::Time = local.parse().unwrap();
        let expected = time.duration_since(jiff::civil::Time::midnight());
        assert_eq!(
            (moment.local_time, moment.weekday),
            (expected, weekday),
            "{at}"
        );
        assert_eq!(moment.now, at.parse().unwrap());
    }
    let utc = Context::new(&Settings::default()).unwrap();
    let moment = utc.gather(&request(None), &arrival(NOON)).moment;
    assert_eq!(moment.local_time.as_secs(), 12 * 3600);
}

#[test]
fn mutual_is_a_client_that_showed_a_certificate_to_an_envoy_that_validates_it() {
    let nobody_says = Context::new(&Settings::default()).unwrap();
    let context = Context::new(&Settings {
        client_certificates: ClientCertificates::Validated,
        ..Settings::default()
    });
    let context = context.unwrap();
    for (principal, certificate, mutual) in [
        (None, None, false),
        (Some(""), Some(Vec::new()), false),
        (Some("spiffe://prod.example/ns/a/sa/b"), None, true),
        (None, Some(vec![0x30]), true),
    ] {
        let mut request = request(None);
        request.peer.principal = principal.map(str::to_owned);
        request.peer.certificate = certificate;
        let facts = context.gather(&request, &arrival(NOON));
        assert_eq!(facts.tls.mutual, mutual, "{:?}", request.peer);
        let facts = nobody_says.gather(&request, &arrival(NOON));
        assert!(!facts.tls.mutual, "{:?}", request.peer);
    }
}

#[test]
fn p12_the_server_name_is_spelled_as_hosts_are() {
    let context = Context::new(&Settings::default()).unwrap();
    for (sni, expected) in [
        (None, None),
        (Some(""), None),
        (Some("."), None),
        (Some("API.Example.com"), Some("api.example.com")),
        (Some("api.example.com."), Some("api.example.com")),
        (Some("other.example.com"), Some("other.example.com")),
    ] {
        let mut request = request(None);
        request.sni = sni.map(str::to_owned);
        let facts = context.gather(&request, &arrival(NOON));
        assert_eq!(facts.tls.sni.as_deref(), expected, "{sni:?}");
    }
}

#[test]
fn every_mistake_in_the_settings_is_told() {
    let all = problems(
        &[
            "10.0.0.1",
            "::1",
            "10.0.0.1/8",
            "::ffff:10.0.0.0/104",
            "0.0.0.0/0",
            "::/0",
            "office",
            "10.0.0.0/33",
        ],
        "Mars/Olympus",
    );
    assert_eq!(all.len(), 9, "{all:#?}");
    for (problem, expected) in all.iter().zip([
        "trusted network `10.0.0.1` has no length\n  hint: write `10.0.0.1/32`",
        "trusted network `::1` has no length\n  hint: write `::1/128`",
        "trusted network `10.0.0.1/8` has bits set behind its length\n  hint: write `10.0.0.0/8`",
        "trusted network `::ffff:10.0.0.0/104` is IPv4-mapped",
        "trusted network `0.0.0.0/0` holds every address",
        "trusted network `::/0` holds every address",
        "trusted network `office` is no network",
        "trusted network `10.0.0.0/33` is no network",
        "time zone `Mars/Olympus` is not known",
    ]) {
        assert!(problem.starts_with(expected), "{problem}");
    }
    assert!(problems(&["10.0.0.0/8"], "Asia/Kathmandu").is_empty());
    assert!(!problems(&[], "").is_empty());
}
