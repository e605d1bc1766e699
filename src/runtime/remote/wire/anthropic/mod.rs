//! Anthropic's Messages API.

use bytes::Bytes;

use super::{Asked, Heard, Inexpressible, Read, Target};
use crate::runtime::request::head::Head;

/// STUB
#[derive(Debug)]
pub struct Stream;
impl Stream {
    /// STUB
    #[must_use]
    pub fn new(_asked: Asked) -> Self {
        Self
    }
    /// STUB
    pub fn event(&mut self, _data: &[u8]) -> Heard {
        Heard::Malformed
    }
    /// STUB
    pub fn end(&mut self) -> Option<Bytes> {
        None
    }
}
/// STUB
#[must_use]
pub fn read(_body: &[u8], _asked: &Asked) -> Read {
    Read::Malformed
}
/// STUB
pub fn encode(_head: &Head, _body: &[u8], _target: Target<'_>) -> Result<Bytes, Inexpressible> {
    Ok(Bytes::new())
}
