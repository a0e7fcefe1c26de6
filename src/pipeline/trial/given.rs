//! What a case supposes.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::caller::CallerForm;
use super::facts::{
    DelegationForm, DeviceForm, EmergencyForm, GeoForm, NetworkForm, RiskForm, SignalsForm,
};
use super::request::{MutualTls, RequestForm};
use super::scalar::When;
use super::{Staging, Supposed};
use crate::model::{Arrival, CERTIFICATE, Caller, Facts, IdentityAttributes, Refusal, SpiffeId};

/// A request that might be: who asks, what, in which circumstances. What is left out is on the strict side, as it is for
/// a request that arrives: nobody in particular, on a device that nobody knows.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Given {
    /// Who asks, in Cardea's own words.
    pub caller: Option<CallerForm>,
    /// Who asks, as the claims of a token; in place of `caller`.
    pub token: Option<Map<String, Value>>,
    /// What is asked.
    pub request: RequestForm,
    /// When.
    pub at: Option<When>,
    /// `context.device`.
    pub device: Option<DeviceForm>,
    /// `context.geo`.
    pub geo: Option<GeoForm>,
    /// `context.network`.
    pub network: Option<NetworkForm>,
    /// `context.risk`.
    pub risk: Option<RiskForm>,
    /// `context.signals`.
    pub signals: Option<SignalsForm>,
    /// `context.delegation`.
    pub delegation: Option<DelegationForm>,
    /// `context.emergency`.
    pub emergency: Option<EmergencyForm>,
}

impl Given {
    /// The supposed request; it takes place at `usual` unless it says otherwise.
    ///
    /// # Errors
    /// What is wrong with the form. What is wrong with the request it tells of is a refusal, and no error.
    pub fn suppose(self, staging: &Staging, usual: Timestamp) -> Result<Supposed, String> {
        let at = self.at.map_or(usual, |at| at.0);
        let arrival = Arrival {
            at,
            started: staging.clock.monotonic(),
            deadline: None,
            trace_parent: None,
            grpc: false,
        };
        let request = self.request.read(staging.paths)?;
        let caller = self.who(staging, at)?;
        let facts = match &request {
            Ok(request) => staging.context.gather(request, &arrival),
            Err(_) => Facts::default(),
        };
        let peer = self.peer(&caller, at);
        // The request comes first, as on the real road; then whoever asks.
        let (request, caller) = match (request, caller) {
            (Ok(_), Err(refusal)) => (Err(refusal), None),
            (request, caller) => (request, caller.unwrap_or_default()),
        };
        let mut facts = self.overlay(facts, at);
        if let Some(peer) = peer {
            facts.tls.prove(peer);
        }
        Ok(Supposed {
            arrival,
            request,
            caller,
            facts,
        })
    }

    fn who(&self, staging: &Staging, at: Timestamp) -> Result<Who, String> {
        match (&self.caller, &self.token) {
            (Some(_), Some(_)) => Err("`token` stands in place of `caller`".to_owned()),
            (None | Some(CallerForm::Anonymous), None) => Ok(Ok(None)),
            (Some(CallerForm::Known(parts)), None) => Ok(Ok(Some(Arc::new(parts.attributes(at))))),
            (None, Some(claims)) => {
                let read = staging.claims.read(claims.clone(), at);
                Ok(read.map(|attributes| Some(Arc::new(attributes))))
            }
        }
    }

    /// The workload whose certificate is supposed to be proven: the one that is named, else the caller that is known by it.
    fn peer(&self, caller: &Who, at: Timestamp) -> Option<Caller> {
        if let MutualTls::Named(name) = &self.request.mutual_tls {
            let workload = IdentityAttributes::workload(SpiffeId::parse(name)?, at);
            return Some(Caller::Supposed(Arc::new(workload)));
        }
        let caller = caller.as_ref().ok()?.as_ref()?;
        let certified = caller.scheme == CERTIFICATE;
        certified.then(|| Caller::Supposed(Arc::clone(caller)))
    }

    fn overlay(self, mut facts: Facts, now: Timestamp) -> Facts {
        facts.tls.mutual |= self.request.mutual_tls != MutualTls::No;
        if let Some(network) = self.network {
            network.overlay(&mut facts);
        }
        Facts {
            device: self.device.map(Into::into).unwrap_or_default(),
            geo: self.geo.map(Into::into).unwrap_or_default(),
            risk: self.risk.map(Into::into).unwrap_or_default(),
            signals: self.signals.map(Into::into).unwrap_or_default(),
            delegation: self.delegation.map(Into::into),
            emergency: self.emergency.map(|form| form.emergency(now)),
            ..facts
        }
    }
}

/// Who asks, or why that credential would be refused.
type Who = Result<Option<Arc<IdentityAttributes>>, Refusal>;
