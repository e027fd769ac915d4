//! Numbers and tables for people.

use std::fmt::Write as _;

/// Cells as lines of aligned columns, those numbered to the right.
pub fn aligned<const N: usize>(lines: &[[String; N]], right: &[usize]) -> String {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
    let widths: Vec<_> = (0..N).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for cells in lines {
        let mut line = String::new();
        for (column, cell) in cells.iter().enumerate() {
            let width = widths[column];
            let _ = match right.contains(&column) {
                true => write!(line, "{cell:>width$}  "),
                false => write!(line, "{cell:<width$}  "),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// How much is done, in hundredths.
pub fn share(done: u64, total: u64) -> String {
    match total {
        0 => String::new(),
        total => {
            let percent = u128::from(done.min(total)) * 100 / u128::from(total);
            format!("{percent} %")
        }
    }
}

/// A count with its digits in groups.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number in few digits: 950, 1.2 k, 34 M.
pub fn magnitude(number: f64) -> String {
    let (mut number, mut unit) = (number, "");
    for next in [" k", " M", " G", " T"] {
        if number < 999.5 {
            break;
        }
        number /= 1_000.0;
        unit = next;
    }
    match number < 9.95 && !unit.is_empty() {
        true => format!("{number:.1}{unit}"),
        false => format!("{number:.0}{unit}"),
    }
}

/// A span of time in few digits.
pub fn seconds(span: f64) -> String {
    match span {
        span if span < 0.9995 => format!("{:.0} ms", span * 1e3),
        span if span < 99.5 => format!("{span:.1} s"),
        span if span < 5_970.0 => format!("{:.0} min", span / 60.0),
        span if span < 172_800.0 => format!("{:.1} h", span / 3_600.0),
        span => format!("{:.0} d", span / 86_400.0),
    }
}

/// A number of bytes in few digits.
pub fn bytes(bytes: u64) -> String {
    let (mut number, mut unit) = (bytes as f64, "B");
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if number < 1_023.5 {
            break;
        }
        number /= 1_024.0;
        unit = next;
    }
    match number < 9.95 && unit != "B" {
        true => format!("{number:.1} {unit}"),
        false => format!("{number:.0} {unit}"),
    }
}

/// A span of nanoseconds in few digits.
pub fn nanoseconds(span: u64) -> String {
    match span {
        span if span < 1_000 => format!("{span} ns"),
        span if span < 1_000_000 => format!("{:.0} µs", span as f64 / 1e3),
        span if span < 10_000_000 => format!("{:.1} ms", span as f64 / 1e6),
        span => seconds(span as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        let magnitudes = [0.0, 999.0, 999.6, 9_940.0, 12_345.0, 999_600.0, 5.2e13].map(magnitude);
        assert_eq!(magnitudes, ["0", "999", "1.0 k", "9.9 k", "12 k", "1.0 M", "52 T"]);
        let spans = [0.0, 0.25, 1.0, 99.0, 120.0, 7_200.0, 200_000.0].map(seconds);
        assert_eq!(spans, ["0 ms", "250 ms", "1.0 s", "99.0 s", "2 min", "2.0 h", "2 d"]);
        assert_eq!([share(0, 0), share(1, 3), share(9, 3)], ["", "33 %", "100 %"]);
        let sizes = [0, 1_023, 1_024, 5 << 20, 300 << 20, 4 << 30].map(bytes);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "5.0 MiB", "300 MiB", "4.0 GiB"]);
        let spans = [0, 999, 1_500, 999_400, 1_500_000, 25_000_000, 3_000_000_000].map(nanoseconds);
        assert_eq!(spans, ["0 ns", "999 ns", "2 µs", "999 µs", "1.5 ms", "25 ms", "3.0 s"]);
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let lines = [["a", "b"], ["long", "1234"]].map(|line| line.map(str::to_owned));
        assert_eq!(aligned(&lines, &[1]), "a        b\nlong  1234\n");
    }
}
