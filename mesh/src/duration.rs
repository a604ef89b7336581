//! Durations in the form of the Gateway API (GEP-2257): `1h30m`, `10s`, `500ms`.

use std::time::Duration;

/// Reads up to four numbers of up to five digits, each with its unit; `None`
/// for anything else.
pub fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    let mut parts = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest.get(..digits).filter(|_| (1..=5).contains(&digits))?.parse().ok()?;
        rest = rest.get(digits..)?;
        let (part, unit) = if rest.starts_with("ms") {
            (Duration::from_millis(number), 2)
        } else {
            match rest.as_bytes().first()? {
                b'h' => (Duration::from_secs(number * 3600), 1),
                b'm' => (Duration::from_secs(number * 60), 1),
                b's' => (Duration::from_secs(number), 1),
                _ => return None,
            }
        };
        rest = rest.get(unit..)?;
        total += part;
        parts += 1;
    }
    (1..=4).contains(&parts).then_some(total)
}

/// Writes a duration, to the millisecond; what is longer than 99999 hours is cut to that.
pub fn write(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = ((seconds / 3600).min(99_999), seconds / 60 % 60, seconds % 60);
    let parts = [(hours, "h"), (minutes, "m"), (seconds, "s"), (duration.subsec_millis().into(), "ms")];
    let text: String = parts
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, unit)| format!("{number}{unit}"))
        .collect();
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_duration_is_read_in_gateway_apis_form_alone() {
        assert_eq!(parse("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(parse("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse("0s"), Some(Duration::ZERO));
        for wrong in ["", "5", "s", "1d", "1.5s", "-1s", "123456s", "1s1s1s1s1s", "1s ", "1µs"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_the_same(milliseconds in 0..359_996_400_000_u64) {
            let duration = Duration::from_millis(milliseconds);
            prop_assert_eq!(parse(&write(duration)), Some(duration));
        }
    }
}
