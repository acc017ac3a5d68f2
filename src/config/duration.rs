//! Durations as Go writes them, and so Consul: `30s`, `1m30s`, `500ms`, `0`.
//!
//! ```text
//!   [+-] ( digits [ . digits ] unit )+      unit: ns us µs ms s m h
//! ```
//!
//! Less than nothing is refused, since nothing here can last so long. There is no unit for a day.

use std::time::Duration;

/// Reads `text`. `None` when it is no Go duration, negative, or beyond 292 years.
pub fn parse(text: &str) -> Option<Duration> {
    let (is_negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if unsigned == "0" {
        return Some(Duration::ZERO);
    }
    if unsigned.is_empty() {
        return None;
    }

    let mut rest = unsigned;
    let mut total = 0_u128;
    while !rest.is_empty() {
        let (nanos, after) = term(rest)?;
        total = total.checked_add(nanos)?;
        rest = after;
    }
    // Go keeps nanoseconds in an `int64`.
    let nanos = u64::try_from(i64::try_from(total).ok()?).ok()?;
    (!is_negative || nanos == 0).then_some(Duration::from_nanos(nanos))
}

/// Writes `duration` as Go would, but without the units that are zero.
pub fn render(duration: Duration) -> String {
    let secs = duration.as_secs();
    let mut text = String::new();
    for (count, unit) in [
        (u128::from(secs / 3600), "h"),
        (u128::from(secs / 60 % 60), "m"),
        (u128::from(secs % 60), "s"),
        (u128::from(duration.subsec_millis()), "ms"),
        (duration.as_nanos() % 1_000_000, "ns"),
    ] {
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// The nanoseconds of the first number and unit of `text`, and what follows them.
fn term(text: &str) -> Option<(u128, &str)> {
    let (whole, rest) = split_digits(text);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => split_digits(rest),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let unit_len = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
    let (unit, rest) = rest.split_at_checked(unit_len)?;
    let unit_nanos: u128 = match unit {
        "ns" => 1,
        // Go takes the micro sign and the Greek letter.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };

    let mut nanos = number(whole)?.checked_mul(unit_nanos)?;
    // Beyond 13 digits a fraction of an hour is less than a nanosecond.
    let fraction = fraction.get(..13).unwrap_or(fraction);
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    nanos = nanos.checked_add(number(fraction)?.checked_mul(unit_nanos)? / scale)?;
    Some((nanos, rest))
}

fn split_digits(text: &str) -> (&str, &str) {
    let len = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at_checked(len).unwrap_or((text, ""))
}

/// The number that `digits` are; none at all are 0.
fn number(digits: &str) -> Option<u128> {
    if digits.is_empty() { Some(0) } else { digits.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let got = parse(text).map_or_else(|| "refused".to_owned(), |got| format!("{got:?}"));
        assert_eq!(got, expected, "duration: {text}");
    }

    #[test]
    fn durations_as_go_reads_them() {
        for (text, expected) in [
            ("0", "0ns"),
            ("-0", "0ns"),
            ("0s", "0ns"),
            ("-0s", "0ns"),
            ("+5s", "5s"),
            ("30s", "30s"),
            ("1m30s", "90s"),
            ("30s1m", "90s"),
            ("500ms", "500ms"),
            ("1.5h", "5400s"),
            (".5s", "500ms"),
            ("1.s", "1s"),
            ("3us", "3µs"),
            ("3µs", "3µs"),
            ("3μs", "3µs"),
            ("87600h", "315360000s"),
            ("0.3333333333333333333h", "1199.999999999s"),
        ] {
            check(text, expected);
        }
    }

    #[test]
    fn durations_that_go_refuses_or_that_are_negative() {
        for text in [
            "", "+", "-", "3", "s", ".s", "1d", "1 s", " 1s", "1s ", "-1s", "--1s", "1S", "1m30",
            "9999999h", "é", "1é",
        ] {
            check(text, "refused");
        }
    }

    #[test]
    fn durations_are_written_without_zeros() {
        for (text, expected) in [
            ("0", "0s"),
            ("90s", "1m30s"),
            ("24h", "24h"),
            ("3600.5s", "1h500ms"),
            ("1000001ns", "1ms1ns"),
        ] {
            assert_eq!(render(parse(text).unwrap()), expected);
        }
    }
}
