//! Panics become values. A panic that left a call would reset its stream, which Envoy takes for an error, not a denial.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Something panicked. The panic hook has said what and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Panicked;

/// Runs `work`, up to its end or its panic.
///
/// The work is put on the heap before anything is wrapped around it: it is 4 KB large, and each wrapper would move it, and
/// hold room for it twice.
pub(super) fn guarded<F: Future>(work: F) -> Guarded<F> {
    Guarded(Box::pin(work))
}

/// Work whose panic is a value. See [`guarded`].
#[derive(Debug)]
pub(super) struct Guarded<F>(Pin<Box<F>>);

impl<F: Future> Future for Guarded<F> {
    type Output = Result<F::Output, Panicked>;

    /// Unwind safety is asserted: after a panic the work is never polled again, and what it shares with others (caches,
    /// counters, snapshots) is behind locks and atomics that bear an unwind.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(_) => Poll::Ready(Err(Panicked)),
        }
    }
}

/// The same for work that does not wait.
pub(super) fn sync(work: impl FnOnce()) -> Result<(), Panicked> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| Panicked)
}
