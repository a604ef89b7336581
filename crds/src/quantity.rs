//! Amounts of bytes in the form of a Kubernetes quantity: `1Gi`, `500M`.

use std::borrow::Cow;
use std::fmt;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The form of a quantity, as the API server itself reads it.
pub(crate) const PATTERN: &str =
    r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?[0-9]{1,2}))?$";

/// An amount of storage as it is written in a resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StorageQuantity(pub String);

/// The text is not a quantity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidQuantity(pub String);

impl fmt::Display for InvalidQuantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a quantity: write a number with a unit, such as 1Gi, 500M or 250m", self.0)
    }
}

impl std::error::Error for InvalidQuantity {}

impl StorageQuantity {
    /// The amount in bytes, a fraction rounded up.
    ///
    /// # Errors
    /// When the text is not a quantity, is negative or exceeds 2^63 − 1 bytes.
    pub fn bytes(&self) -> Result<i64, InvalidQuantity> {
        let refused = || InvalidQuantity(self.0.chars().take(64).collect());
        let nano = nanos(&self.0).filter(|nano| *nano >= 0).ok_or_else(refused)?;
        let bytes = nano.checked_add(999_999_999).ok_or_else(refused)? / 1_000_000_000;
        i64::try_from(bytes).map_err(|_| refused())
    }

    /// As the quantity of a core type.
    pub fn to_core(&self) -> Quantity {
        Quantity(self.0.clone())
    }
}

impl From<&str> for StorageQuantity {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// Reads a quantity of a core type, in units of 10⁻⁹ so that `n` is exact;
/// what is smaller than that is cut off.
///
/// # Errors
/// When the text is not a quantity or out of range.
pub fn parse_core(quantity: &Quantity) -> Result<i128, InvalidQuantity> {
    nanos(&quantity.0).ok_or_else(|| InvalidQuantity(quantity.0.chars().take(64).collect()))
}

fn nanos(text: &str) -> Option<i128> {
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let end = unsigned.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || number.len() > 40 {
        return None;
    }
    // The digits without the point, and how many of them stood after it.
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let after_point = i32::try_from(fraction.len()).ok()?;
    let (binary, power) = unit(suffix)?;
    let value = scaled(digits.checked_mul(binary)?, power + 9 - after_point)?;
    Some(if negative { -value } else { value })
}

/// A suffix as a factor and a power of ten.
fn unit(suffix: &str) -> Option<(i128, i32)> {
    let plain = |power| Some((1, power));
    let binary = |bits: u32| Some((1_i128 << bits, 0));
    match suffix {
        "" => plain(0),
        "n" => plain(-9),
        "u" => plain(-6),
        "m" => plain(-3),
        "k" => plain(3),
        "M" => plain(6),
        "G" => plain(9),
        "T" => plain(12),
        "P" => plain(15),
        "E" => plain(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?;
            let signed = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if signed.is_empty() || signed.len() > 2 || !signed.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            plain(exponent.parse().ok()?)
        }
    }
}

fn scaled(value: i128, power: i32) -> Option<i128> {
    let factor = 10_i128.checked_pow(power.unsigned_abs());
    if power >= 0 {
        if value == 0 { Some(0) } else { value.checked_mul(factor?) }
    } else {
        Some(factor.map_or(0, |factor| value / factor))
    }
}

impl JsonSchema for StorageQuantity {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "StorageQuantity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": 32,
            "pattern": PATTERN,
            "x-kubernetes-validations": [{
                "rule": "!isQuantity(self) || quantity(self).compareTo(quantity('1Mi')) >= 0",
                "message": "must be at least 1Mi",
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_the_api_server_reads_them() {
        for (text, bytes) in [
            ("0", 0),
            ("1", 1),
            ("1Gi", 1 << 30),
            ("1.5Gi", 3 << 29),
            ("500M", 500_000_000),
            ("1e3", 1000),
            ("12E", 12_000_000_000_000_000_000_i128),
            ("1m", 1),
            (".5k", 500),
        ] {
            let read = StorageQuantity::from(text).bytes().map(i128::from);
            assert_eq!(read.ok(), i64::try_from(bytes).ok().map(i128::from), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_quantity_is_refused_with_an_example() {
        for text in
            ["", "Gi", "1gb", "1 Gi", "-1", "1..2", ".", "1e", "1e+", "1e999", "9".repeat(50).as_str()]
        {
            let error = StorageQuantity::from(text).bytes().unwrap_err();
            assert!(error.to_string().contains("such as 1Gi"), "{text}");
        }
    }
}
