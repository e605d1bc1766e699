//! Lines leave a worker thread together, at the latest when it has nothing else to do: every request writes one, and the system call costs
//! three times as much as the line. Under load that is a moment later; at rest it is at once, as it always is for warnings and errors.

use std::{
    cell::RefCell,
    io::{self, Write, stderr},
};

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// A pipe takes so many bytes in one piece, whoever else writes to it: `PIPE_BUF` of pipe(7).
const MOST: usize = 4096;

thread_local! {
    static HELD: RefCell<OfThread> = const { RefCell::new(OfThread(Held { lines: Vec::new(), parks: false })) };
}

/// To be called by each worker thread before it parks: only threads that do hold lines back.
pub fn parks() {
    // What standard error does not take nobody can be told.
    let _ = HELD.try_with(|held| {
        let held = &mut held.borrow_mut().0;
        held.parks = true;
        held.flush(&mut stderr())
    });
}

/// Lines that have not left yet.
#[derive(Debug, Default)]
struct Held {
    lines: Vec<u8>,
    parks: bool,
}

impl Held {
    fn take(&mut self, line: &[u8], urgent: bool, out: &mut impl Write) -> io::Result<()> {
        if self.lines.len() + line.len() > MOST {
            self.flush(out)?;
        }
        self.lines.extend_from_slice(line);
        if urgent || !self.parks || self.lines.len() > MOST {
            self.flush(out)?;
        }
        Ok(())
    }

    fn flush(&mut self, out: &mut impl Write) -> io::Result<()> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let written = out.write_all(&self.lines);
        self.lines.clear();
        written
    }
}

/// A thread that ends leaves nothing behind.
#[derive(Debug)]
struct OfThread(Held);

impl Drop for OfThread {
    fn drop(&mut self) {
        let _ = self.0.flush(&mut stderr());
    }
}

/// Makes writers of lines.
#[derive(Debug)]
pub struct Batched;

impl MakeWriter<'_> for Batched {
    type Writer = Line;

    fn make_writer(&self) -> Line {
        Line { urgent: true }
    }

    fn make_writer_for(&self, metadata: &Metadata<'_>) -> Line {
        Line {
            urgent: *metadata.level() <= Level::WARN,
        }
    }
}

/// Writes one line.
#[derive(Debug)]
pub struct Line {
    urgent: bool,
}

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let taken = HELD.try_with(|held| held.borrow_mut().0.take(line, self.urgent, &mut stderr()));
        // The thread is about to end and holds nothing any more.
        taken.unwrap_or_else(|_| stderr().write_all(line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each call writes.
    #[derive(Default)]
    struct Calls(Vec<String>);

    impl Write for Calls {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.push(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_leave_together_and_in_order() {
        let (mut held, mut out) = (Held::default(), Calls::default());
        held.take(b"no worker\n", false, &mut out).unwrap();
        held.parks = true;
        held.take(b"a\n", false, &mut out).unwrap();
        held.take(b"b\n", false, &mut out).unwrap();
        assert_eq!(out.0.len(), 1, "they are held");
        held.take(b"warning\n", true, &mut out).unwrap();
        held.take(b"c\n", false, &mut out).unwrap();
        held.flush(&mut out).unwrap();
        held.flush(&mut out).unwrap();
        assert_eq!(out.0, ["no worker\n", "a\nb\nwarning\n", "c\n"]);
    }

    #[test]
    fn a_batch_is_what_a_pipe_takes_in_one_piece() {
        let (mut held, mut out) = (Held::default(), Calls::default());
        held.parks = true;
        let line = format!("{}\n", "x".repeat(999));
        for _ in 0..9 {
            held.take(line.as_bytes(), false, &mut out).unwrap();
        }
        let long = "y".repeat(MOST + 1);
        held.take(long.as_bytes(), false, &mut out).unwrap();
        let lengths: Vec<usize> = out.0.iter().map(String::len).collect();
        assert_eq!(lengths, [4_000, 4_000, 1_000, MOST + 1]);
    }
}
