//! Bounded reading of an engine's output: no line is longer than [`LINE_LIMIT`], however much it writes.

use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes of a line that are kept; the rest of it is dropped.
pub const LINE_LIMIT: usize = 4096;

/// Hand every line of `from` to `take` until it ends or fails.
pub async fn each_line(mut from: impl AsyncRead + Unpin, mut take: impl FnMut(&str)) {
    let mut chunk = vec![0u8; 8192];
    let mut line = Vec::with_capacity(256);
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        let mut parts = chunk.get(..read).unwrap_or_default().split(|&byte| byte == b'\n');
        // What comes before the first line break belongs to the line begun; after the last one a new line begins.
        let Some(mut part) = parts.next() else { continue };
        for next in parts {
            extend(&mut line, part);
            emit(&mut line, &mut take);
            part = next;
        }
        extend(&mut line, part);
    }
    if !line.is_empty() {
        emit(&mut line, &mut take);
    }
}

fn extend(line: &mut Vec<u8>, part: &[u8]) {
    let room = LINE_LIMIT.saturating_sub(line.len());
    line.extend_from_slice(part.get(..room.min(part.len())).unwrap_or_default());
}

fn emit(line: &mut Vec<u8>, take: &mut impl FnMut(&str)) {
    take(String::from_utf8_lossy(line).trim_end_matches('\r'));
    line.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(input: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        each_line(input, |line| found.push(line.to_owned())).await;
        found
    }

    #[tokio::test]
    async fn splits_at_line_breaks_only() {
        assert_eq!(lines(b"one\ntwo\r\n\nlast").await, ["one", "two", "", "last"]);
        assert_eq!(lines(b"").await, Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_line_without_end_is_cut() {
        let mut input = vec![b'x'; 100_000];
        input.extend_from_slice(b"\nnext\n");
        let found = lines(&input).await;
        assert_eq!((found[0].len(), found[1].as_str()), (LINE_LIMIT, "next"));
    }

    #[tokio::test]
    async fn bytes_that_are_no_text_do_not_stop_it() {
        assert_eq!(lines(b"\xff\xfe\nok\n").await[1], "ok");
    }
}
