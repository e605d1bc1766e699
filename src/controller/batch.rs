//! Changes that come in a burst are one reconcile.

use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::runtime::scheduler::{ScheduleRequest, scheduler};
use tokio::time::Instant;

use super::watch::Target;

/// How long the first change waits for others.
const BATCH: Duration = Duration::from_millis(50);

/// Each target once for all changes that come within [`BATCH`] of the first one. The debounce of kube's controller would begin anew with
/// every change, and hundreds of replicas never leave it the time to end.
pub fn batched(targets: impl Stream<Item = Target>) -> impl Stream<Item = Target> {
    scheduler(targets.map(|message| ScheduleRequest {
        message,
        run_at: Instant::now() + BATCH,
    }))
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::stream;
    use kube::runtime::reflector::ObjectRef;
    use tokio::time::{sleep, timeout};

    use super::*;

    fn target(name: &str) -> Target {
        ObjectRef::new(name).within("default")
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_one_and_each_object_has_its_own() {
        let burst = (0..100).map(|change| target(if change % 2 == 0 { "a" } else { "b" }));
        let mut batched = pin!(batched(stream::iter(burst).chain(stream::pending())));
        let began = Instant::now();
        let mut names = [batched.next().await.unwrap().name, batched.next().await.unwrap().name];
        names.sort();
        assert_eq!((names.concat().as_str(), began.elapsed()), ("ab", BATCH));
        assert!(timeout(BATCH * 100, batched.next()).await.is_err(), "nothing more");
    }

    #[tokio::test(start_paused = true)]
    async fn changes_without_end_hold_nothing_up() {
        let changes = stream::unfold((), |()| async {
            sleep(Duration::from_millis(3)).await;
            Some((target("a"), ()))
        });
        let mut batched = pin!(batched(changes));
        for _ in 0..100 {
            let next = timeout(BATCH * 2, batched.next()).await;
            assert!(next.is_ok(), "a target waits for changes after it");
        }
    }
}
