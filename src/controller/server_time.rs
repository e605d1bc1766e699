//! What time the API server says it is: windows of a budget advance only while its clock and ours agree (design section 8).

use std::sync::{Arc, Mutex, PoisonError};

use http::Response;
use jiff::{Timestamp, fmt::rfc2822};
use kube::{
    Client, Config,
    client::{ClientBuilder, DynBody},
};
use tokio::time::Instant;
use tower::util::MapResponseLayer;

/// The API server's clock, by the last answer's Date header and our monotonic clock since.
#[derive(Clone, Debug, Default)]
pub struct ServerTime(Arc<Mutex<Option<(Timestamp, Instant)>>>);

impl ServerTime {
    /// A client whose answers set the clock.
    ///
    /// # Errors
    /// As [`Client::try_from`].
    pub fn client(&self, config: Config) -> kube::Result<Client> {
        let clock = self.clone();
        let note = MapResponseLayer::new(move |response: Response<_>| {
            clock.note(&response);
            response
        });
        let builder = ClientBuilder::try_from(config)?;
        Ok(builder.with_layer(&note).build::<Box<DynBody>>())
    }

    /// A clock that shows `now` and goes on.
    #[cfg(test)]
    pub fn at(now: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(Some((now, Instant::now())))))
    }

    fn note<B>(&self, response: &Response<B>) {
        let date = response.headers().get(http::header::DATE);
        let date = date.and_then(|date| rfc2822::parse(date.to_str().ok()?).ok());
        if let Some(date) = date {
            let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            *noted = Some((date.timestamp(), Instant::now()));
        }
    }

    /// Now; `None` before the first answer.
    pub fn now(&self) -> Option<Timestamp> {
        let noted = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (date, at) = noted?;
        date.checked_add(at.elapsed()).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_clock_goes_on_from_the_last_answer() {
        let time = ServerTime::default();
        assert_eq!(time.now(), None);
        let answer = |date: &str| Response::builder().header("date", date).body(()).unwrap();
        time.note(&answer("Tue, 24 Nov 2026 21:06:19 GMT"));
        time.note(&answer("yesterday"));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(time.now(), Some("2026-11-24T21:06:21Z".parse().unwrap()));
    }
}
