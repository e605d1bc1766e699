//! What the fuzz targets hold the request path to: properties of the real code, each a function over any bytes that panics when the
//! code breaks it. The targets only call them, so that one input that broke something can be tried under a debugger.

pub mod errors;
mod json;
pub mod requests;
pub mod sse;

/// Cuts bytes in pieces of 1 to 17, the same ones for the same bytes: an input stays plain text that people can read.
pub fn pieces(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut state = data.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut rest = data;
    std::iter::from_fn(move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let length = usize::try_from(state >> 33).unwrap_or(0) % 17 + 1;
        let (piece, left) = rest.split_at(length.min(rest.len()));
        rest = left;
        (!piece.is_empty()).then_some(piece)
    })
}
