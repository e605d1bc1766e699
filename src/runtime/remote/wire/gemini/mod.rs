//! Gemini's generateContent, of AI Studio and of Vertex.

use bytes::Bytes;

use super::{Asked, Heard, Inexpressible, Read, Target};
use crate::runtime::request::head::{Head, Operation};

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
pub fn read(_operation: Operation, _body: &[u8], _asked: &Asked) -> Read {
    Read::Malformed
}
/// STUB
pub fn encode(_head: &Head, _body: &[u8], _target: Target<'_>, _vertex: bool) -> Result<Bytes, Inexpressible> {
    Ok(Bytes::new())
}
/// STUB
pub fn method(operation: Operation, stream: bool, _vertex: bool) -> Result<&'static str, Inexpressible> {
    match (operation, stream) {
        (Operation::Chat, true) => Ok(":streamGenerateContent?alt=sse"),
        (Operation::Chat, false) => Ok(":generateContent"),
        (Operation::Embeddings, _) => Ok(":batchEmbedContents"),
        (Operation::Completions, _) => Err(Inexpressible {
            field: "x".into(),
            message: "y".into(),
        }),
    }
}
