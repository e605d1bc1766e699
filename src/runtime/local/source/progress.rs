//! How far a download is, for people: told in steps, so that a large model is not a write a second (design section 6).

use tokio::sync::watch;

use super::super::view::{Download, EngineView};

/// Parts of the whole that are told.
const STEPS: u64 = 20;
/// The step when the whole is not known.
const UNKNOWN_STEP: u64 = 256 * 1024 * 1024;

/// Counts bytes and publishes them.
pub struct Meter<'a> {
    view: &'a watch::Sender<EngineView>,
    done: u64,
    total: Option<u64>,
    told: Option<Download>,
}

impl<'a> Meter<'a> {
    /// Nothing is known yet.
    pub const fn new(view: &'a watch::Sender<EngineView>) -> Self {
        Self {
            view,
            done: 0,
            total: None,
            told: None,
        }
    }

    /// So many bytes of so many are there.
    pub fn set(&mut self, done: u64, total: Option<u64>) {
        (self.done, self.total) = (done, total);
        self.tell();
    }

    /// More has come.
    pub fn add(&mut self, bytes: u64) {
        self.set(self.done.saturating_add(bytes), self.total);
    }

    /// It was of no use.
    pub fn lose(&mut self, bytes: u64) {
        self.set(self.done.saturating_sub(bytes), self.total);
    }

    fn tell(&mut self) {
        let now = Some(step(self.done, self.total));
        if self.told != now {
            self.told = now;
            if let Some(download) = now {
                tracing::info!(bytes = download.bytes, total = download.total, "downloading the model");
                self.view.send_replace(EngineView::Downloading(download));
            }
        }
    }
}

/// Whole steps only.
fn step(done: u64, total: Option<u64>) -> Download {
    let size = total.map_or(UNKNOWN_STEP, |total| total.div_ceil(STEPS).max(1));
    let bytes = if Some(done) == total { done } else { done / size * size };
    Download { bytes, total }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_download_is_told_in_twenty_steps_whatever_its_size() {
        for total in [1, 19, 1000, 140_000_000_000] {
            let (view, mut seen) = watch::channel(EngineView::Loading);
            let mut meter = Meter::new(&view);
            let mut told = 0;
            for n in 0..=1000 {
                meter.set(total * n / 1000, Some(total));
                told += u32::from(seen.has_changed().unwrap());
                seen.mark_unchanged();
            }
            assert!((1..=22).contains(&told), "{total}: {told}");
            let last = Download {
                bytes: total,
                total: Some(total),
            };
            assert!(matches!(&*seen.borrow(), EngineView::Downloading(download) if *download == last));
        }
    }

    #[test]
    fn bytes_are_never_overstated() {
        assert_eq!(step(99, Some(1000)).bytes, 50);
        assert_eq!(step(UNKNOWN_STEP + 1, None).bytes, UNKNOWN_STEP);
        assert_eq!(step(0, Some(0)).bytes, 0);
    }
}
