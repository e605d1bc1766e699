//! How much of a limit a replica would use, in steps: only what changes in meaning is told.

use std::time::Duration;

use super::{Bucket, MILLI, Rate, decayed::Decayed};

/// Demand is averaged over this.
const LONG: Duration = Duration::from_secs(15);
/// A demand that begins shows in these first.
const SHORT: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];
/// Room is averaged over this, or over as long as the share brings [`ROOM_UNITS`]: by chance alone a replica with few requests is
/// without one for a while.
const ROOM: Duration = Duration::from_millis(500);
const ROOM_UNITS: f64 = 6.0;
/// Shares that bring so little have no room that is worth a word.
const ROOM_LONGEST: f64 = 60.0;
/// A replica that leaves this part of its share unused has room.
const UNUSED: f64 = 0.6;
/// A demand is told when it is above the last told one by this factor,
const RISE: f64 = 1.2;
/// or below it by this one, while another replica is short,
const FALL: f64 = 0.7;
/// or by this one, while nobody is.
const FALL_AT_EASE: f64 = 0.25;
/// A demand that has risen by this factor in a shortage cannot wait.
const LEAP: f64 = 1.5;
/// How sure a beginning must be, in standard deviations, while others are short, and while there is enough.
const DOUBT: f64 = 2.0;
const DOUBT_AT_EASE: f64 = 1.0;
/// What is owed, and what waits while there is enough for all, asks for a share that works it off in this many seconds.
const WORK_OFF: f64 = 15.0;
/// Below this many thousandths a minute there is no demand.
const NONE: f64 = 100.0;

/// What became of what is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Told {
    /// It stays.
    #[default]
    Same,
    /// It changed.
    Changed,
    /// It changed, and another replica or our own requests wait for that.
    Urgent,
}

/// The circumstances of a judgement.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// Requests found no place in the share of late.
    pub short: bool,
    /// All replicas together ask for more than the limit.
    pub contended: bool,
    /// Units that wait for room.
    pub waiting: u64,
}

/// The demand for one share.
#[derive(Clone, Debug)]
pub struct Demand {
    long: Decayed,
    short: [Decayed; 2],
    unused: Decayed,
    told: Rate,
    /// What was told last in a hurry, or less.
    urged: Rate,
    /// When something was wanted last.
    last: Duration,
}

impl Demand {
    /// None yet.
    pub fn new(now: Duration) -> Self {
        Self {
            long: Decayed::new(LONG, now),
            short: SHORT.map(|over| Decayed::new(over, now)),
            unused: Decayed::new(ROOM, now),
            told: 0,
            urged: 0,
            last: now,
        }
    }

    /// `units` are wanted; less than nothing: so many were wanted too much.
    pub fn add(&mut self, units: f64, now: Duration) {
        self.long.add(units, now);
        for rate in &mut self.short {
            rate.add(units, now);
        }
        if units > 0.0 {
            self.last = now;
        }
    }

    /// As it is told.
    pub const fn told(&self) -> Rate {
        self.told
    }

    /// Looks whether what is told still holds.
    pub fn judge(&mut self, bucket: &mut Bucket, circumstances: Circumstances, now: Duration) -> Told {
        let Circumstances {
            short,
            contended,
            waiting,
        } = circumstances;
        let used = self.used(bucket, now);
        let (told, share) = (float(self.told), float(bucket.rate()));
        // Who is short uses all that there is, whatever may be proved of so few requests.
        let least = if short { share } else { 0.0 };
        let (doubt, waiting) = if contended {
            (DOUBT, 0)
        } else {
            (DOUBT_AT_EASE, waiting)
        };
        let asked = self.wanted(doubt, now).max(least).max(worked_off(bucket.debt(now)));
        let wanted = asked + worked_off(waiting);
        let matters = short || contended || wanted * 2.0 > share;
        let rise = if short { 1.0 } else { RISE };
        if wanted > told * rise && matters {
            if wanted > told * LEAP {
                // What was left unused before says nothing of what has begun.
                self.unused.set_per_minute(0.0, now);
            }
            return self.rise(step_above(wanted), short);
        }
        if contended
            && !short
            && let Some(used) = used
        {
            let used = if self.is_over(now) { 0.0 } else { used };
            return self.has_room(used, now);
        }
        if wanted < told * (if contended { FALL } else { FALL_AT_EASE }) {
            self.told = step_above(wanted);
            self.urged = self.urged.min(self.told);
            return Told::Changed;
        }
        Told::Same
    }

    fn rise(&mut self, told: Rate, short: bool) -> Told {
        self.told = told;
        if !short || float(told) <= float(self.urged) * LEAP {
            return Told::Changed;
        }
        self.urged = told;
        Told::Urgent
    }

    fn has_room(&mut self, used: f64, now: Duration) -> Told {
        let told = step_above(used * RISE);
        if told >= self.told {
            return Told::Same;
        }
        (self.told, self.urged) = (told, told);
        self.long.set_per_minute(used / float(MILLI), now);
        for rate in &mut self.short {
            rate.set_per_minute(used / float(MILLI), now);
        }
        Told::Urgent
    }

    /// Nothing has come for so long that it is no chance.
    fn is_over(&mut self, now: Duration) -> bool {
        let typical = self.long.typical();
        let apart = typical * 60.0 / self.long.per_minute(now).max(1.0 / 60.0);
        now.saturating_sub(self.last).as_secs_f64() > (ROOM_UNITS * apart).max(1.0)
    }

    /// Thousandths a minute.
    fn wanted(&mut self, doubt: f64, now: Duration) -> f64 {
        let rates = self.short.iter_mut().chain([&mut self.long]);
        let begun = rates
            .map(|rate| rate.at_least_per_minute(doubt, now))
            .fold(0.0, f64::max);
        begun.max(self.long.per_minute(now)) * float(MILLI)
    }

    /// What is used of a share of which most is not, thousandths a minute.
    fn used(&mut self, bucket: &mut Bucket, now: Duration) -> Option<f64> {
        let (share, spilled) = (float(bucket.rate()), float(bucket.take_spilled(now)));
        let needs = ROOM_UNITS * self.long.typical() * float(MILLI) * 60.0 / share.max(1.0);
        self.unused.set_over(needs.clamp(ROOM.as_secs_f64(), ROOM_LONGEST));
        self.unused.add(spilled, now);
        let unused = self.unused.per_minute(now);
        (needs <= ROOM_LONGEST && unused > share * UNUSED).then_some((share - unused).max(0.0))
    }
}

/// Thousandths a minute that work so many units off.
fn worked_off(units: u64) -> f64 {
    float(units) * float(MILLI) * 60.0 / WORK_OFF
}

/// The next of four steps to the double: what is a little more or less is told alike.
fn step_above(rate: f64) -> Rate {
    if rate < NONE {
        return 0;
    }
    let step = ((rate.log2() * 4.0).ceil() / 4.0).exp2().ceil();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate of at least 100; a cast saturates"
    )]
    let step = step as Rate;
    step
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
const fn float(rate: u64) -> f64 {
    rate as f64
}
