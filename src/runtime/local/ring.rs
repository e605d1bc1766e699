//! The last lines of an engine's log, bounded in bytes.

use std::collections::VecDeque;

/// Bytes kept (design section 10).
pub const CAPACITY: usize = 64 * 1024;

/// A ring of lines.
#[derive(Debug, Default)]
pub struct Ring {
    lines: VecDeque<String>,
    bytes: usize,
}

impl Ring {
    /// Add a line; the oldest go when the ring is full.
    pub fn push(&mut self, line: &str) {
        self.bytes += line.len() + 1;
        self.lines.push_back(line.to_owned());
        while self.bytes > CAPACITY {
            let Some(old) = self.lines.pop_front() else { break };
            self.bytes -= old.len() + 1;
        }
    }

    /// The last `count` lines, oldest first.
    pub fn tail(&self, count: usize) -> impl Iterator<Item = &str> {
        let skip = self.lines.len().saturating_sub(count);
        self.lines.iter().skip(skip).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_newest_lines_within_its_capacity() {
        let mut ring = Ring::default();
        for n in 0..100_000 {
            ring.push(&format!("line {n}"));
        }
        assert_eq!(ring.tail(2).collect::<Vec<_>>(), ["line 99998", "line 99999"]);
        assert!(ring.tail(usize::MAX).map(|line| line.len() + 1).sum::<usize>() <= CAPACITY);
    }
}
