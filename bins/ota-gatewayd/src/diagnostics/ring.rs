//! The last lines of the log, in memory: a debug bundle has them wherever the log itself goes.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tracing_subscriber::fmt::MakeWriter;

/// Most bytes that are kept.
const BYTES: usize = 1 << 20;
/// Longest line; the rest is cut off.
const LINE: usize = 8 << 10;

/// Shared by the log, which writes, and bundles, which read.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogRing(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<Box<str>>,
    bytes: usize,
    dropped: u64,
}

impl LogRing {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8]) {
        let line = String::from_utf8_lossy(&line[..line.len().min(LINE)]);
        let line = line.trim_end();
        if line.is_empty() {
            return;
        }
        let mut kept = self.kept();
        kept.bytes += line.len() + 1;
        kept.lines.push_back(line.into());
        while kept.bytes > BYTES {
            let Some(oldest) = kept.lines.pop_front() else { break };
            kept.bytes -= oldest.len() + 1;
            kept.dropped += 1;
        }
    }

    /// The lines, oldest first, behind a line about those that are gone.
    pub(crate) fn text(&self) -> String {
        let kept = self.kept();
        let mut text = match kept.dropped {
            0 => String::new(),
            dropped => format!("({dropped} earlier lines of this run are not kept)\n"),
        };
        text.reserve(kept.bytes);
        for line in &kept.lines {
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}

/// One event of the log; the formatter writes it in one piece.
pub(crate) struct Line<'a>(&'a LogRing);

impl io::Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogRing {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_lines_stay_within_a_bound_and_the_loss_is_told() {
        let ring = LogRing::default();
        ring.push(b"first\n");
        assert_eq!(ring.text(), "first\n");
        let long = vec![b'x'; LINE * 2];
        for _ in 0..BYTES / LINE + 10 {
            ring.push(&long);
        }
        ring.push(b"last\n");
        let text = ring.text();
        assert!(text.len() <= BYTES + 100, "{}", text.len());
        assert!(text.starts_with('(') && !text.contains("first") && text.ends_with("\nlast\n"));
    }
}
