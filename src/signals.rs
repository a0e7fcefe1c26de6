//! What others say of those who ask: security events that take trust back (OpenID Shared Signals Framework 1.0, with CAEP
//! and RISC).
//!
//! ```text
//! pushed (RFC 8935) ─┐
//!                    ├▶ receiver: believed? read, seen, mapped ▶ identity's revocations ▶ taken, refused, or: again, later
//! polled (RFC 8936) ─┘
//! ```
//!
//! | file | does |
//! |---|---|
//! | `receiver` | one transmitter: what becomes of an event |
//! | `settings` | the section `signals` of the settings |
//! | `set` | the shape of a security event token (RFC 8417) |
//! | `events` | which types there are, and what each does |
//! | `subject` | whom an event is about (RFC 9493), as credentials name them |
//! | `replay` | what was received already |
//! | `poll` | fetching events |
//! | `verify` | whether events arrive at all |
//! | `backoff`, `figures` | pauses after failures; what is counted |
//!
//! A transmitter speaks for itself: each has its own path, keys, issuer and audiences, and may only revoke what the issuers
//! vouch for that the settings name. An event that cannot be applied is never lost without a word: it is refused, asked for
//! again, or counted and logged.

mod backoff;
mod events;
mod figures;
mod poll;
mod receiver;
mod replay;
mod set;
mod settings;
mod subject;
#[cfg(test)]
mod testing;
mod verify;

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use self::receiver::{Taken, Transmitter};
use crate::identity::Revocations;
use crate::model::{Clock, Problem};

pub use events::Signal;
pub use figures::Figures;
pub use settings::{
    Action, DeviceMeaning, Identifier, Meaning, PollSettings, PushSettings, Settings,
    TransmitterSettings, VerificationSettings,
};

/// The media type of what is pushed (RFC 8935, section 2.1).
const MEDIA_TYPE: &str = "application/secevent+jwt";

/// Receives security events.
#[derive(Debug)]
pub struct Signals {
    transmitters: Vec<Arc<Transmitter>>,
    tasks: Vec<AbortHandle>,
}

/// What was pushed. Nothing of it was looked at, but its length is bounded.
#[derive(Debug, Clone, Copy)]
pub struct Pushed<'a> {
    /// To which transmitter's path.
    pub transmitter: &'a str,
    /// The one `Authorization`, where there is exactly one.
    pub authorization: Option<&'a [u8]>,
    /// The `Content-Type`.
    pub content_type: Option<&'a [u8]>,
    /// The event.
    pub body: &'a [u8],
}

/// What whoever pushes is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// It is taken: in force and saved, or of no consequence.
    Taken,
    /// There is no such transmitter, or it does not push.
    Unknown,
    /// Whoever sends is not the transmitter.
    Unproven,
    /// It is refused for good.
    Refused {
        /// One of RFC 8935, section 2.4, or `invalid_state`.
        code: &'static str,
        /// The end of a sentence. It quotes nothing.
        description: &'static str,
    },
    /// It cannot be judged, applied or saved now.
    Later,
}

impl Signals {
    /// Starts to keep the transmitters' keys, to fetch events and to see that they arrive, on the `background` runtime. It
    /// blocks to read secrets and files, so call it at start.
    ///
    /// # Errors
    /// Everything that is wrong with the settings or cannot be read.
    pub fn start(
        settings: &Settings,
        (revocations, clock): (&Arc<Revocations>, &Arc<dyn Clock>),
        background: &Handle,
    ) -> Result<Arc<Self>, Vec<Problem>> {
        let (mut transmitters, mut problems) = (Vec::new(), Vec::new());
        for one in &settings.transmitters {
            let shared = (Arc::clone(revocations), Arc::clone(clock));
            match Transmitter::start(one, shared, background) {
                Ok(transmitter) => transmitters.push(Arc::new(transmitter)),
                Err(problem) => problems.push(problem),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut tasks = Vec::new();
        for transmitter in &transmitters {
            let settings = transmitter.settings();
            if let Some(poll) = settings.poll.clone() {
                let work = poll::keep_polling(Arc::clone(transmitter), poll);
                tasks.push(background.spawn(work).abort_handle());
            }
            if let Some(verification) = settings.verification.clone() {
                let work = verify::keep_verified(Arc::clone(transmitter), verification);
                tasks.push(background.spawn(work).abort_handle());
            }
        }
        Ok(Arc::new(Self {
            transmitters,
            tasks,
        }))
    }

    /// Whether any transmitter pushes.
    #[must_use]
    pub fn receives(&self) -> bool {
        let mut all = self.transmitters.iter();
        all.any(|transmitter| transmitter.settings().push.is_some())
    }

    /// Takes what was pushed, or not. Once it says so, the event is in force; it survives a restart where revocations are
    /// kept in a file, and without one only as long as this process lives, which the settings have to allow.
    pub async fn push(&self, pushed: Pushed<'_>) -> Told {
        let named = |transmitter: &&Arc<Transmitter>| {
            transmitter.name() == pushed.transmitter && transmitter.settings().push.is_some()
        };
        let Some(transmitter) = self.transmitters.iter().find(named) else {
            return Told::Unknown;
        };
        if !transmitter.admits(pushed.authorization) {
            return Told::Unproven;
        }
        let taken = if is_event(pushed.content_type) {
            transmitter.take(pushed.body, None).await
        } else {
            transmitter.malformed("is not sent as `application/secevent+jwt`")
        };
        match taken {
            Taken::Done => Told::Taken,
            Taken::Later => Told::Later,
            Taken::Refused(refused) => Told::Refused {
                code: refused.code,
                description: refused.description,
            },
        }
    }

    /// How each transmitter's stream stands, in the order of the settings.
    #[must_use]
    pub fn figures(&self) -> Vec<Figures> {
        let all = self.transmitters.iter();
        all.map(|transmitter| transmitter.figures()).collect()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Whether a `Content-Type` is that of events, whatever its parameters.
fn is_event(content_type: Option<&[u8]>) -> bool {
    let text = content_type.and_then(|text| std::str::from_utf8(text).ok());
    let named = text.map(|text| text.split_once(';').map_or(text, |(named, _)| named));
    named.is_some_and(|named| named.trim().eq_ignore_ascii_case(MEDIA_TYPE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_events_are_events() {
        for good in [
            "application/secevent+jwt",
            "Application/SecEvent+JWT; charset=utf-8",
        ] {
            assert!(is_event(Some(good.as_bytes())), "{good}");
        }
        for bad in ["", "application/jwt", "secevent+jwt", "application/json"] {
            assert!(!is_event(Some(bad.as_bytes())), "{bad}");
        }
        assert!(!is_event(Some(b"\xff")));
        assert!(!is_event(None));
    }
}
