//! Limits on Events, as client-go's correlator has them: an object may have 25 at once and then one in five minutes; more than ten
//! different notes of one reason within ten minutes are combined into one.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

const BURST: u32 = 25;
const REFILL: Duration = Duration::from_secs(300);
const DIFFERENT_NOTES: usize = 10;
const NOTES_WINDOW: Duration = Duration::from_secs(600);
/// Objects and reasons that are remembered; beyond it the one that was silent longest is forgotten, as client-go's LRU does.
const REMEMBERED: usize = 4096;

/// What becomes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Write it as it is.
    Publish,
    /// Write it under [`COMBINED`], so that one object in the cluster counts them all.
    Combine,
    /// Do not write it.
    Drop,
}

/// What a combined note begins with.
pub const COMBINED: &str = "(combined from similar events): ";

#[derive(Debug)]
struct Bucket {
    tokens: u32,
    /// When `tokens` was last right.
    at: Duration,
    seen: Duration,
}

#[derive(Debug)]
struct Notes {
    seen: Duration,
    notes: HashSet<String>,
}

/// The limiter of one process.
#[derive(Debug, Default)]
pub struct EventLimiter {
    buckets: HashMap<String, Bucket>,
    notes: HashMap<(String, String), Notes>,
}

impl EventLimiter {
    /// Decides on an event regarding `object` at `now`, the time since the process started.
    pub fn admit(&mut self, object: &str, reason: &str, note: &str, now: Duration) -> Admission {
        let combine = self.is_one_of_many(object, reason, note, now);
        match (self.take(object, now), combine) {
            (false, _) => Admission::Drop,
            (true, true) => Admission::Combine,
            (true, false) => Admission::Publish,
        }
    }

    fn is_one_of_many(&mut self, object: &str, reason: &str, note: &str, now: Duration) -> bool {
        if self.notes.len() >= REMEMBERED {
            forget_oldest(&mut self.notes, |n| n.seen);
        }
        let entry = self
            .notes
            .entry((object.to_owned(), reason.to_owned()))
            .or_insert_with(|| Notes {
                seen: now,
                notes: HashSet::new(),
            });
        if now.saturating_sub(entry.seen) > NOTES_WINDOW {
            entry.notes.clear();
        }
        entry.seen = now;
        if entry.notes.len() < DIFFERENT_NOTES || entry.notes.contains(note) {
            entry.notes.insert(note.to_owned());
            return false;
        }
        true
    }

    fn take(&mut self, object: &str, now: Duration) -> bool {
        if self.buckets.len() >= REMEMBERED {
            forget_oldest(&mut self.buckets, |b| b.seen);
        }
        let bucket = self.buckets.entry(object.to_owned()).or_insert(Bucket {
            tokens: BURST,
            at: now,
            seen: now,
        });
        bucket.seen = now;
        while bucket.tokens < BURST && now.saturating_sub(bucket.at) >= REFILL {
            bucket.tokens += 1;
            bucket.at += REFILL;
        }
        if bucket.tokens == BURST {
            bucket.at = now;
        }
        let admitted = bucket.tokens > 0;
        bucket.tokens = bucket.tokens.saturating_sub(1);
        admitted
    }
}

fn forget_oldest<K: Clone + Eq + std::hash::Hash, V>(map: &mut HashMap<K, V>, seen: impl Fn(&V) -> Duration) {
    if let Some(oldest) = map.iter().min_by_key(|(_, v)| seen(v)).map(|(k, _)| k.clone()) {
        map.remove(&oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn twenty_five_at_once_then_one_in_five_minutes() {
        let mut limiter = EventLimiter::default();
        let mut publish = |now| limiter.admit("a", "Open", "n", now) != Admission::Drop;
        assert_eq!((0..100).filter(|_| publish(at(0))).count(), 25);
        assert!(!publish(at(299)));
        assert!(publish(at(300)));
        assert!(!publish(at(301)));
        assert!(publish(at(901)), "unused time is kept");
        assert!(publish(at(902)));
        assert!(!publish(at(903)));
    }

    #[test]
    fn another_object_has_its_own_limit() {
        let mut limiter = EventLimiter::default();
        (0..30).for_each(|_| {
            limiter.admit("a", "Open", "n", at(0));
        });
        assert_eq!(limiter.admit("b", "Open", "n", at(0)), Admission::Publish);
    }

    #[test]
    fn more_than_ten_different_notes_are_combined() {
        let mut limiter = EventLimiter::default();
        for n in 0..10 {
            assert_eq!(limiter.admit("a", "Open", &n.to_string(), at(n)), Admission::Publish);
        }
        assert_eq!(limiter.admit("a", "Open", "10", at(10)), Admission::Combine);
        assert_eq!(
            limiter.admit("a", "Open", "3", at(11)),
            Admission::Publish,
            "a known note stays itself"
        );
        assert_eq!(
            limiter.admit("a", "Closed", "10", at(12)),
            Admission::Publish,
            "another reason"
        );
        assert_eq!(
            limiter.admit("a", "Open", "11", at(1000)),
            Admission::Publish,
            "after ten quiet minutes"
        );
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut limiter = EventLimiter::default();
        for n in 0..5000 {
            limiter.admit(&n.to_string(), "Open", "n", at(n));
        }
        assert!(limiter.buckets.len() <= REMEMBERED && limiter.notes.len() <= REMEMBERED);
    }
}
