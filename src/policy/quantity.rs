//! Quantities of Kubernetes, as far as memory needs them: pure.

/// Bytes of a quantity like `40Gi`, `1.5G` or `1000`, rounded up; `None` when it is none, is negative or is too large.
#[must_use]
pub fn bytes(text: &str) -> Option<u64> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    let factor: u128 = match unit {
        "" => 1,
        "k" => 1000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') {
        return None;
    }
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    u64::try_from(digits.checked_mul(factor)?.div_ceil(scale)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_every_unit() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1000", Some(1000)),
            ("40Gi", Some(40 << 30)),
            ("1.5Gi", Some(3 << 29)),
            ("80G", Some(80_000_000_000)),
            ("512Mi", Some(512 << 20)),
            ("1.", Some(1)),
            ("0.3", Some(1)),
            ("16Ti", Some(16 << 40)),
            ("", None),
            (".5Gi", None),
            ("-1Gi", None),
            ("40GB", None),
            ("1.2.3", None),
            ("1e9", None),
            ("99999999999999999999999999999999999999Ti", None),
            ("much", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }
}
