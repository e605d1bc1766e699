//! As much of HTTP/1.1 as a bench needs to know where a message ends.

/// Length of the first whole message in the buffer; `None` while it is not all there. Lengths and chunks are understood as this
/// bench's own servers and the proxies between them write them: a chunked message is the last one in the buffer.
pub fn whole(buffer: &[u8]) -> Option<usize> {
    let head = find(buffer, b"\r\n\r\n")? + 4;
    let fields = buffer.get(..head)?;
    match after(fields, b"\r\ncontent-length: ") {
        Some(length) => (buffer.len() >= head + length).then_some(head + length),
        None if is_chunked(fields) => buffer.ends_with(b"\r\n0\r\n\r\n").then_some(buffer.len()),
        None => Some(head),
    }
}

fn is_chunked(fields: &[u8]) -> bool {
    find(fields, b"\r\ntransfer-encoding: chunked\r\n").is_some()
}

/// Index of `needle`, capital letters aside.
pub fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len())
        .position(|window| window.eq_ignore_ascii_case(needle))
}

/// The number that follows `label`.
pub fn after(hay: &[u8], label: &[u8]) -> Option<usize> {
    let rest = hay.get(find(hay, label)? + label.len()..)?;
    let digits = rest.iter().take_while(|b| b.is_ascii_digit());
    Some(digits.fold(0_usize, |sum, b| {
        sum.saturating_mul(10).saturating_add(usize::from(b - b'0'))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_end_where_they_say() {
        let message = b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(whole(message), Some(message.len()));
        assert_eq!(whole(&message[..message.len() - 1]), None);
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        assert_eq!(whole(chunked), Some(chunked.len()));
        assert_eq!(whole(&chunked[..chunked.len() - 2]), None);
        assert_eq!(whole(b"GET / HTTP/1.1\r\n\r\n"), Some(18));
    }
}
