//! The circumstances of a request: from where, when, over what connection.
//!
//! Each source fills its own part of [`Facts`] from what the edge has already read; nothing here waits, reads a file or
//! asks the network. A further source is one file and one line in [`Context::gather`].

mod moment;
mod network;
mod tls;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::moment::Zone;
use self::network::TrustedNetworks;
use crate::model::{AccessRequest, Arrival, Facts, Problem};

/// Circumstances: which networks are trusted, whose clock on the wall counts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Networks whose client addresses policies see as trusted (`context.network.ipTrusted`), such as `10.20.0.0/16` or
    /// `2001:db8:7::/48`. Default: none. IPv4 clients that come as IPv4-mapped IPv6 addresses count as IPv4.
    pub trusted_networks: Vec<String>,
    /// Time zone of `context.time.localTime` and `context.time.weekday`, by its IANA name, such as `Europe/Berlin`.
    /// Default: `UTC`.
    pub time_zone: String,
    /// What Envoy does with the certificates of clients. It hands over name and certificate of a client whether it
    /// validated them or not, and does not say which; so this has to, before policies see `context.tls.mutual` as true.
    pub client_certificates: ClientCertificates,
}

/// What Envoy does with the certificates of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientCertificates {
    /// Not known, or it lets in clients whose certificates it did not validate: `context.tls.mutual` is never true. The
    /// default.
    #[default]
    Unproven,
    /// It validates every certificate that a client shows (`trusted_ca`, and no `ACCEPT_UNTRUSTED`), on every listener that
    /// asks this Cardea: `context.tls.mutual` is true where a client showed one.
    Validated,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            trusted_networks: Vec::new(),
            time_zone: "UTC".to_owned(),
            client_certificates: ClientCertificates::default(),
        }
    }
}

impl Settings {
    /// Everything that is wrong with these settings.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        Context::new(self).err().unwrap_or_default()
    }
}

/// The sources, ready to be asked.
#[derive(Debug)]
pub struct Context {
    trusted: TrustedNetworks,
    zone: Zone,
    client_certificates: ClientCertificates,
}

impl Context {
    /// Prepares the sources. Time zone data comes from the system, else from the binary.
    ///
    /// # Errors
    /// Every network that is none, and a time zone nobody knows.
    pub fn new(settings: &Settings) -> Result<Self, Vec<Problem>> {
        let trusted = TrustedNetworks::new(&settings.trusted_networks);
        let zone = Zone::new(&settings.time_zone);
        match (trusted, zone) {
            (Ok(trusted), Ok(zone)) => Ok(Self {
                trusted,
                zone,
                client_certificates: settings.client_certificates,
            }),
            (trusted, zone) => {
                let mut problems = trusted.err().unwrap_or_default();
                problems.extend(zone.err());
                Err(problems)
            }
        }
    }

    /// What is known of a request's circumstances. What no source fills stands at its strict default.
    #[must_use]
    pub fn gather(&self, request: &AccessRequest, arrival: &Arrival) -> Facts {
        Facts {
            network: self.trusted.network(request),
            moment: self.zone.moment(arrival),
            tls: tls::facts(request, self.client_certificates),
            ..Facts::default()
        }
    }
}

#[cfg(test)]
mod tests;
