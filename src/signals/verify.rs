//! Whether a stream works: the transmitter is asked for a verification event with a word that nobody can guess, and that
//! word has to arrive (OpenID Shared Signals Framework 1.0, section 8.1.4).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::rand;
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::watch;
use url::Url;

use super::backoff::Backoff;
use super::receiver::Transmitter;
use super::settings::{TransmitterSettings, VerificationSettings};
use crate::model::remote_url;

/// How many words are waited for: answers may be late.
const MOST_ASKED: usize = 8;

/// How old a verification event may be that nobody asked for, if it is to show that the stream works now.
const FRESH: i64 = 5 * 60;

/// How long the request for one may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest answer that is read. There is nothing to be read in it.
const LONGEST: usize = 16 * 1024;

/// What is known of a stream.
#[derive(Debug)]
pub(super) struct Stream {
    state: Mutex<State>,
    /// The number of the latest question that was answered.
    answered: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    asked: VecDeque<(u64, String)>,
    number: u64,
    verified: Option<Instant>,
    overdue: bool,
    /// The transmitter's last word on whether it sends, and when it said so.
    enabled: Option<(Timestamp, bool)>,
}

impl Stream {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::default(),
            answered: watch::Sender::new(0),
        }
    }

    /// A new word to ask with, and its number. `None` where the system has no random bytes.
    fn ask(&self) -> Option<(u64, String)> {
        let mut word = [0; 16];
        rand::fill(&mut word).ok()?;
        let word = super::replay::written(word);
        let mut state = self.lock();
        state.number += 1;
        let asked = (state.number, word);
        state.asked.push_back(asked.clone());
        if state.asked.len() > MOST_ASKED {
            state.asked.pop_front();
        }
        Some(asked)
    }

    /// A verification event arrived, with a word or without one. Whether that word was asked for.
    pub(super) fn arrived(
        &self,
        word: Option<&str>,
        issued_at: Timestamp,
        (now, at): (Timestamp, Instant),
    ) -> bool {
        let mut state = self.lock();
        let Some(word) = word else {
            if now.as_second() - issued_at.as_second() <= FRESH {
                state.verified = Some(at);
            }
            return true;
        };
        // The event is signed by the transmitter, who knows the word: there is nothing to learn from how long this takes.
        let Some(place) = state.asked.iter().position(|(_, asked)| asked == word) else {
            return false;
        };
        let answered = state.asked.remove(place);
        state.verified = Some(at);
        state.overdue = false;
        drop(state);
        if let Some((number, _)) = answered {
            self.answered
                .send_modify(|latest| *latest = number.max(*latest));
        }
        true
    }

    /// The transmitter says whether it sends. Whether that is news.
    pub(super) fn updated(&self, enabled: bool, said_at: Timestamp) -> bool {
        let mut state = self.lock();
        if state.enabled.is_some_and(|(last, _)| said_at < last) {
            return false;
        }
        let before = state.enabled.is_none_or(|(_, before)| before);
        state.enabled = Some((said_at, enabled));
        before != enabled
    }

    /// Whether the transmitter sends, by its last word.
    pub(super) fn enabled(&self) -> bool {
        self.lock().enabled.is_none_or(|(_, enabled)| enabled)
    }

    /// When it was last seen that events arrive.
    pub(super) fn verified(&self) -> Option<Instant> {
        self.lock().verified
    }

    /// Whether events arrive: they did once, and the last question was not left without an answer.
    pub(super) fn alive(&self) -> bool {
        let state = self.lock();
        state.verified.is_some() && !state.overdue
    }

    /// A question was left without an answer. Whether that is news.
    fn fail(&self) -> bool {
        !std::mem::replace(&mut self.lock().overdue, true)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks again and again, until it is aborted.
pub(super) async fn keep_verified(transmitter: Arc<Transmitter>, settings: VerificationSettings) {
    let mut backoff = Backoff::new(settings.interval.0);
    loop {
        let stream = transmitter.stream();
        let pause = match round(&transmitter, &settings).await {
            Ok(()) => {
                backoff.reset();
                settings.interval.0
            }
            Err(why) => {
                let name = transmitter.name();
                if stream.fail() {
                    tracing::error!(transmitter = name, error = %why, "it cannot be seen that security events arrive");
                }
                backoff.next()
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Asks once, and waits for the event.
async fn round(transmitter: &Transmitter, settings: &VerificationSettings) -> Result<(), String> {
    let stream = transmitter.stream();
    let mut answered = stream.answered.subscribe();
    let url = endpoint(transmitter, settings).await?;
    let Some((number, word)) = stream.ask() else {
        return Err("the system has no random bytes".to_owned());
    };
    let body = json!({ "stream_id": settings.stream_id, "state": word });
    let answer = transmitter.ask(&url, &body, (PATIENCE, LONGEST)).await;
    let answer = answer.map_err(|why| why.to_string())?;
    if !matches!(answer.status, 200 | 202 | 204) {
        return Err(format!(
            "the request for a verification event is answered with status {}",
            answer.status
        ));
    }
    let arrives = answered.wait_for(|latest| *latest >= number);
    match tokio::time::timeout(settings.timeout.0, arrives).await {
        Ok(_) => Ok(()),
        Err(_) => {
            Err("the verification event that was asked for did not arrive in time".to_owned())
        }
    }
}

async fn endpoint(
    transmitter: &Transmitter,
    settings: &VerificationSettings,
) -> Result<Url, String> {
    if let Some(url) = &settings.endpoint {
        return remote_url(url)
            .ok_or_else(|| "`verification.endpoint` may not be asked".to_owned());
    }
    let party = transmitter.party();
    let named = party.endpoint("verification_endpoint").await?;
    own(named, transmitter.settings())
}

/// A URL that a document names, where it is one of the servers that the settings name: the token is for these alone.
fn own(named: Url, settings: &TransmitterSettings) -> Result<Url, String> {
    let poll = settings.poll.as_ref().map(|poll| poll.url.as_str());
    let places = [Some(settings.issuer.as_str()), poll];
    let mut places = places.into_iter().flatten().filter_map(remote_url);
    if places.any(|place| place.origin() == named.origin()) {
        return Ok(named);
    }
    let what = "the `verification_endpoint` that the transmitter names is at another origin than `issuer` and `poll.url`, and is not shown the token: if that is right, set `verification.endpoint`";
    Err(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::settings::PollSettings;
    use super::*;
    use crate::model::{Clock, SystemClock};

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn only_the_word_that_was_asked_for_shows_that_events_arrive_and_only_once() {
        let stream = Stream::new();
        let now = (second(1000), SystemClock.monotonic());
        let (_, word) = stream.ask().unwrap();
        assert!(!stream.arrived(Some("another"), second(1000), now));
        assert!(!stream.arrived(Some(""), second(1000), now));
        assert!(!stream.alive());
        assert!(stream.arrived(Some(&word), second(1000), now));
        assert!(stream.alive());
        assert_eq!(stream.verified(), Some(now.1));
        assert!(!stream.arrived(Some(&word), second(1000), now), "once");
    }

    #[test]
    fn c7_a_document_cannot_have_the_token_shown_to_another_server() {
        let poll = PollSettings {
            url: "https://events.idp.example:8443/poll".into(),
            ..PollSettings::default()
        };
        let settings = TransmitterSettings {
            issuer: "https://idp.example/tenant".into(),
            poll: Some(poll),
            ..TransmitterSettings::default()
        };
        let may = |url: &str| own(remote_url(url).unwrap(), &settings);
        for good in [
            "https://idp.example/verify",
            "https://idp.example:443/verify",
            "https://events.idp.example:8443/verify",
        ] {
            assert_eq!(
                may(good).unwrap().as_str(),
                remote_url(good).unwrap().as_str()
            );
        }
        for bad in [
            "https://evil.example/verify",
            "https://idp.example.evil.example/verify",
            "https://sub.idp.example/verify",
            "https://idp.example:8443/verify",
            "https://events.idp.example/verify",
            "http://127.0.0.1/verify",
        ] {
            let told = may(bad).unwrap_err();
            assert!(told.contains("set `verification.endpoint`"), "{told}");
            assert!(!told.contains("evil"), "{told}");
        }
    }

    #[test]
    fn words_differ_and_late_ones_are_waited_for_up_to_a_number() {
        let stream = Stream::new();
        let now = (second(1000), SystemClock.monotonic());
        let words: Vec<String> = (0..9).map(|_| stream.ask().unwrap().1).collect();
        assert!(stream.fail());
        assert!(!stream.fail(), "told once");
        assert!(!stream.arrived(Some(&words[0]), second(1000), now));
        assert!(!stream.alive());
        assert!(stream.arrived(Some(&words[1]), second(1000), now));
        assert!(stream.alive(), "late is better than never");
        assert_eq!(*stream.answered.borrow(), 2);
    }

    #[test]
    fn an_event_that_nobody_asked_for_counts_while_it_is_fresh() {
        let stream = Stream::new();
        let now = (second(10_000), SystemClock.monotonic());
        assert!(stream.arrived(None, second(1000), now));
        assert_eq!(stream.verified(), None, "it may have been kept by somebody");
        assert!(stream.arrived(None, second(9_900), now));
        assert_eq!(stream.verified(), Some(now.1));
    }

    #[test]
    fn the_latest_word_on_the_stream_counts() {
        let stream = Stream::new();
        assert!(stream.enabled());
        assert!(
            !stream.updated(true, second(10)),
            "nobody thought otherwise"
        );
        assert!(stream.updated(false, second(20)));
        assert!(!stream.updated(true, second(15)), "told late");
        assert!(!stream.enabled());
        assert!(stream.updated(true, second(30)));
        assert!(stream.enabled());
    }
}
