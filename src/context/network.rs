//! From where: the client's address, and whether it lies in a trusted network.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::{AccessRequest, Network, Problem, shown};

/// The most networks the settings may name.
const MAX_NETWORKS: usize = 10_000;

/// The trusted networks as ranges that do not overlap, in order, so that asking costs a binary search.
#[derive(Debug, Default)]
pub(super) struct TrustedNetworks {
    ranges: Vec<(IpAddr, IpAddr)>,
}

impl TrustedNetworks {
    pub(super) fn new(networks: &[String]) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        if networks.len() > MAX_NETWORKS {
            let message = format!("`trusted_networks` names more than {MAX_NETWORKS} networks");
            return Err(vec![Problem::new(message)]);
        }
        let mut parsed = Vec::new();
        for text in networks {
            match parse(text) {
                Ok(network) => parsed.push(network),
                Err(problem) => problems.push(problem),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut ranges: Vec<_> = IpNet::aggregate(&parsed)
            .into_iter()
            .map(|network| (network.network(), network.broadcast()))
            .collect();
        ranges.sort_unstable();
        Ok(Self { ranges })
    }

    /// The facts about the client's network. An address nobody could tell is not trusted.
    pub(super) fn network(&self, request: &AccessRequest) -> Network {
        // `::ffff:10.0.0.1` is 10.0.0.1 as a dual-stack socket shows it (RFC 4291, section 2.5.5.2).
        let ip = request.client_address.map(|address| address.to_canonical());
        Network {
            ip,
            ip_trusted: ip.is_some_and(|ip| self.contains(ip)),
        }
    }

    fn contains(&self, ip: IpAddr) -> bool {
        let behind = self.ranges.partition_point(|(first, _)| *first <= ip);
        behind
            .checked_sub(1)
            .and_then(|at| self.ranges.get(at))
            .is_some_and(|(_, last)| ip <= *last)
    }
}

fn parse(text: &str) -> Result<IpNet, Problem> {
    let wrong = |what: &str| {
        let text = shown(text, 64);
        Problem::new(format!("trusted network `{text}` {what}"))
    };
    let Ok(network) = text.parse::<IpNet>() else {
        return Err(match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => wrong("has no length").hint(format!("write `{text}/32`")),
            Ok(IpAddr::V6(_)) => wrong("has no length").hint(format!("write `{text}/128`")),
            Err(_) => {
                wrong("is no network").hint("write it like `10.20.0.0/16` or `2001:db8::/32`")
            }
        });
    };
    if network.prefix_len() == 0 {
        return Err(wrong("holds every address, so that all would be trusted"));
    }
    if network != network.trunc() {
        return Err(
            wrong("has bits set behind its length").hint(format!("write `{}`", network.trunc()))
        );
    }
    match network {
        IpNet::V6(v6) if v6.addr().to_ipv4_mapped().is_some() => {
            Err(wrong("is IPv4-mapped and would match nothing").hint("write it as an IPv4 network"))
        }
        _ => Ok(network),
    }
}
