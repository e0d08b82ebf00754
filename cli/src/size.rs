//! Sizes, counts and times as people write and read them.
//!
//! `8G`, `8GiB` and `8589934592` are one size: units count by 1024, as memory is sold. Printed
//! sizes name the unit in full (`8.0 GiB`), printed numbers are grouped (`171,075`).

use std::time::Duration;

const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/// Reads a size in bytes; fits `clap`'s value parsers.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().to_ascii_lowercase();
    let power = UNITS
        .iter()
        .position(|known| {
            let known = known.to_ascii_lowercase();
            unit == known
                || (unit.len() <= 2 && known.replace('i', "") == unit)
                || (unit.len() == 1 && known.starts_with(&unit))
        })
        .or(unit.is_empty().then_some(0))
        .ok_or_else(|| format!("unknown unit {unit:?}, known are K, M, G, T and P"))?;
    let factor = 1u64 << (10 * power);
    let wrong = || format!("{number:?} is not a number");
    let bytes = match number.split_once('.') {
        None => number.parse::<u64>().map_err(|_| wrong())?.checked_mul(factor),
        Some(_) => {
            let bytes = number.parse::<f64>().map_err(|_| wrong())? * factor as f64;
            (bytes < u64::MAX as f64).then_some(bytes as u64)
        }
    };
    bytes.ok_or_else(|| "larger than 16 EiB".to_string())
}

/// `bytes` with one decimal in the largest unit that fits: `8.0 GiB`.
pub(crate) fn human(bytes: u64) -> String {
    let power = (bytes.max(1).ilog2() / 10).min(UNITS.len() as u32 - 1);
    if power == 0 {
        return format!("{bytes} B");
    }
    format!("{:.1} {}", bytes as f64 / (1u64 << (10 * power)) as f64, UNITS[power as usize])
}

/// `bytes` in the largest unit in which it is whole: `1,152 MiB`.
pub(crate) fn exact(bytes: u64) -> String {
    let power = match bytes {
        0 => 0,
        bytes => (bytes.trailing_zeros() / 10).min(UNITS.len() as u32 - 1),
    };
    format!("{} {}", grouped(bytes >> (10 * power)), UNITS[power as usize])
}

/// `number` in groups of three digits: `171,075`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `count` things of a kind: `1 key`, `1,200 keys`.
pub(crate) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(count), if count == 1 { one } else { many })
}

/// `time` with three digits in the unit that fits: `1.23 ms`.
pub(crate) fn time(time: Duration) -> String {
    let nanos = time.as_nanos() as f64;
    let (value, unit) = match nanos {
        n if n < 1e3 => return format!("{n:.0} ns"),
        n if n < 1e6 => (n / 1e3, "µs"),
        n if n < 1e9 => (n / 1e6, "ms"),
        n => (n / 1e9, "s"),
    };
    let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.decimals$} {unit}")
}

/// How many of `count` there are per second when they take `time`, rounded to three digits.
pub(crate) fn per_second(count: u64, time: Duration) -> u64 {
    let rate = count as f64 / time.as_secs_f64().max(1e-9);
    let unit = 10f64.powf((rate.max(1.0).log10().floor() - 2.0).max(0.0));
    ((rate / unit).round() * unit) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_every_spelling() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64k", 65_536),
            ("64KiB", 65_536),
            ("64 kb", 65_536),
            ("1.5M", 1_572_864),
            ("8G", 8 << 30),
            ("2TiB", 2 << 40),
            ("12B", 12),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for wrong in ["", "G", "8X", "8.8.8G", "-1", "99999999P", "1e3"] {
            assert!(parse(wrong).is_err(), "{wrong:?} was read as {:?}", parse(wrong));
        }
    }

    #[test]
    fn figures_are_printed_with_their_unit() {
        assert_eq!(human(0), "0 B");
        assert_eq!(human(1023), "1023 B");
        assert_eq!(human(8 << 30), "8.0 GiB");
        assert_eq!(human(u64::MAX), "16384.0 PiB");
        assert_eq!(exact(0), "0 B");
        assert_eq!(exact(1025), "1,025 B");
        assert_eq!(exact(9 << 27), "1,152 MiB");
        assert_eq!(exact(256 << 40), "256 TiB");
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(171_075), "171,075");
        assert_eq!(grouped(1_000_000), "1,000,000");
        assert_eq!(counted(1, "key", "keys"), "1 key");
        assert_eq!(time(Duration::from_nanos(95)), "95 ns");
        assert_eq!(time(Duration::from_micros(1234)), "1.23 ms");
        assert_eq!(time(Duration::from_secs(75)), "75.0 s");
        assert_eq!(per_second(1000, Duration::from_millis(3)), 333_000);
    }
}
