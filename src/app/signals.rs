//! Security events, in the words of the public endpoint and of telemetry.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::config::Config;
use crate::model::Problem;
use crate::pipeline::Pipeline;
use crate::public::{Answering, Delivery, Receipt};
use crate::signals::{Pushed, Signals, Told};
use crate::telemetry::StreamSeen;

/// Receives what the settings name.
pub(super) fn start(
    config: &Config,
    pipeline: &Pipeline,
    background: &Handle,
) -> Result<Arc<Signals>, Vec<Problem>> {
    let shared = (pipeline.identity.revocations(), &pipeline.clock);
    Signals::start(&config.signals, shared, background)
}

/// What takes events at the public endpoint, where there is anybody to send them.
pub(super) fn taker(
    signals: &Arc<Signals>,
) -> Option<Arc<dyn Fn(Delivery) -> Answering + Send + Sync>> {
    if !signals.receives() {
        return None;
    }
    let signals = Arc::clone(signals);
    Some(Arc::new(move |delivery| {
        let signals = Arc::clone(&signals);
        Box::pin(async move { receipt(signals.push(pushed(&delivery)).await) })
    }))
}

fn pushed(delivery: &Delivery) -> Pushed<'_> {
    Pushed {
        transmitter: &delivery.transmitter,
        authorization: delivery.authorization.as_deref(),
        content_type: delivery.content_type.as_deref(),
        body: &delivery.body,
    }
}

fn receipt(told: Told) -> Receipt {
    match told {
        Told::Taken => Receipt::Taken,
        Told::Unknown => Receipt::Unknown,
        Told::Unproven => Receipt::Unproven,
        Told::Refused { code, description } => Receipt::Refused { code, description },
        Told::Later => Receipt::Later,
    }
}

/// What metrics tell of them.
pub(super) fn seen(signals: &Signals) -> Vec<StreamSeen> {
    let all = signals.figures().into_iter();
    all.map(|figures| StreamSeen {
        transmitter: figures.transmitter.into(),
        events: figures.events,
        verified: figures.verified,
        alive: figures.alive,
        enabled: figures.enabled,
        polled: figures.polls.and_then(|(last, _)| last),
        poll_failures: figures.polls.map(|(_, failures)| failures),
        keys_age: figures.keys_age,
    })
    .collect()
}
