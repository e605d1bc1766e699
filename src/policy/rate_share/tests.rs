mod allocate;
mod bucket;
mod meter;
mod model;

use std::time::Duration;

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}
