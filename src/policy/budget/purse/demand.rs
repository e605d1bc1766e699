//! How much money a process needs: what was spent of late, and the most that was in flight at once.

use std::time::Duration;

/// Length of one piece of the past.
const PIECE: Duration = Duration::from_secs(5);
/// Pieces that are remembered.
const PIECES: usize = 3;

/// The last 10 to 15 seconds.
#[derive(Debug, Default)]
pub(super) struct Demand {
    pieces: [Piece; PIECES],
    /// Number of the newest piece.
    newest: u64,
    last_use: Duration,
}

#[derive(Clone, Copy, Debug, Default)]
struct Piece {
    spent: u64,
    peak: u64,
}

impl Demand {
    /// Something was reserved, `in_flight` in all.
    pub(super) fn reserved(&mut self, in_flight: u64, now: Duration) {
        self.last_use = now;
        let piece = self.piece(now);
        piece.peak = piece.peak.max(in_flight);
    }

    /// Something was spent.
    pub(super) fn spent(&mut self, amount: u64, now: Duration) {
        self.last_use = now;
        let piece = self.piece(now);
        piece.spent = piece.spent.saturating_add(amount);
    }

    /// Time without any use.
    pub(super) const fn idle(&self, now: Duration) -> Duration {
        now.saturating_sub(self.last_use)
    }

    /// What a process with `in_flight` reserved and `free` left should ask for: enough for half a minute more once less than half of
    /// that is left.
    pub(super) fn ahead(&mut self, in_flight: u64, free: u64, now: Duration) -> u64 {
        self.piece(now);
        let spent = self.pieces.iter().map(|piece| piece.spent).fold(0, u64::saturating_add);
        let peak = self.pieces.iter().map(|piece| piece.peak).max().unwrap_or(0);
        let have = in_flight.saturating_add(free);
        if have >= peak.saturating_add(spent) {
            return 0;
        }
        peak.saturating_add(spent.saturating_mul(2)).saturating_sub(have)
    }

    /// The piece of `now`; those in between are empty.
    fn piece(&mut self, now: Duration) -> &mut Piece {
        let number = now.as_secs() / PIECE.as_secs();
        for _ in 0..number.saturating_sub(self.newest).min(PIECES as u64) {
            self.pieces.rotate_right(1);
            self.pieces[0] = Piece::default();
        }
        self.newest = self.newest.max(number);
        &mut self.pieces[0]
    }
}
