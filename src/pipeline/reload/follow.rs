//! Following a remote bundle: asked for at its own pace, in the background, whatever the network does.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Snapshots;
use crate::pipeline::source::{FetchError, Remote, Seen, Source};

/// The pause after the first failure. It doubles with each one, up to the usual pause.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// What following remembers.
struct Following {
    seen: Seen,
    failed_in_a_row: u32,
    last_error: Option<FetchError>,
}

impl Snapshots {
    /// Asks for the remote bundle until `closing`.
    pub(super) async fn follow(self: Arc<Self>, closing: CancellationToken) {
        let Source::Remote { remote, .. } = &self.source else {
            return;
        };
        // What is in force need not be fetched again.
        let in_force = self.current().and_then(|_| self.last_good.signature());
        let mut following = Following {
            seen: Seen::new(in_force),
            failed_in_a_row: 0,
            last_error: None,
        };
        let rounds = async {
            loop {
                self.round(remote, &mut following).await;
                tokio::time::sleep(following.pause(remote.poll)).await;
            }
        };
        tokio::select! {
            () = closing.cancelled() => {}
            () = rounds => {}
        }
    }

    async fn round(self: &Arc<Self>, remote: &Remote, following: &mut Following) {
        self.try_keep().await;
        match remote.ask(&mut following.seen).await {
            Err(error) => {
                following.failed_in_a_row = following.failed_in_a_row.saturating_add(1);
                self.failures.fetch_add(1, Ordering::Relaxed);
                // The same failure again is not news.
                if following.last_error.as_ref() != Some(&error) {
                    tracing::error!(%error, "the remote bundle cannot be fetched; what is in force stays");
                }
                following.last_error = Some(error);
            }
            Ok(offer) => {
                following.failed_in_a_row = 0;
                if following.last_error.take().is_some() {
                    tracing::info!("the remote bundle can be fetched again");
                }
                if let Some(offer) = offer {
                    let in_force = self.attempt(|snapshots| snapshots.load_offer(offer)).await;
                    following.seen.judged(in_force);
                }
            }
        }
    }
}

impl Following {
    /// The pause until the next round, a tenth more or less, so that many instances do not ask at once.
    fn pause(&self, usual: Duration) -> Duration {
        let mut random = [128];
        // Without random bytes the pause is simply the middle one.
        let _kept = aws_lc_rs::rand::fill(&mut random);
        let [random] = random;
        let pause = match self.failed_in_a_row {
            0 => usual,
            failed => FIRST_RETRY
                .saturating_mul(1 << (failed - 1).min(16))
                .min(usual),
        };
        pause.mul_f64(0.9 + 0.2 * f64::from(random) / 255.0)
    }
}
