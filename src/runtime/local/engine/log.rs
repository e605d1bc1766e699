//! Reading logs of Python engines. What a client wrote may stand in them too, mostly quoted: it must never convict the engine.

use crate::runtime::local::classify::{self, Symptom};

/// What stands before the first quotation of a line.
fn unquoted(text: &str) -> &str {
    text.split(['\'', '"', '`']).next().unwrap_or_default()
}

/// What a line says of the GPU or of memory.
pub fn device(text: &str) -> Option<Symptom> {
    classify::common(unquoted(text)).filter(|found| !matches!(found, Symptom::Fatal | Symptom::Error))
}

/// The last line of a traceback: `ValueError: …`, `torch.AcceleratorError: …`. It says why, what stands before it only where.
pub fn is_exception(text: &str) -> bool {
    let name = text.split_once(':').map_or(text, |(name, _)| name);
    let is_path = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
    // Pydantic's says only how many there are; the next line has what is wrong.
    let counts = text.contains("validation error for");
    is_path && !counts && (name.ends_with("Error") || name.ends_with("Exception"))
}

/// What is wrong with a value, below the count of pydantic's exception.
pub fn is_validation(text: &str) -> bool {
    text.trim_start().starts_with("Value error, ")
}

/// What the parser of arguments says before it ends the process: `PROGRAM: error: …`.
pub fn is_usage_error(text: &str) -> bool {
    let program = text.split_once(": error: ").map(|(program, _)| program);
    program.is_some_and(|program| !program.is_empty() && program.chars().all(|c| !matches!(c, '"' | '\'' | ':')))
}
