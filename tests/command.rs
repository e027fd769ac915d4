//! The binary as a user runs it.

use std::process::{Command, Output as Finished};

use crate::oracle::{Cell, Decimal, Output, View};

/// Runs the binary; it must succeed.
pub fn isotick(arguments: &[&str]) -> Finished {
    let output = run(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "isotick {}: {}\n{errors}",
        arguments.join(" "),
        output.status
    );
    output
}

pub fn run(arguments: &[&str]) -> Finished {
    // Nothing of ./isotick.toml may leak in.
    let folder = std::env::temp_dir();
    let mut command = Command::new(env!("CARGO_BIN_EXE_isotick"));
    command.args(arguments).current_dir(folder).output().expect("the binary runs")
}

/// The hash that a command printed: the word of 64 hex digits.
pub fn hash_of(output: &Finished) -> String {
    let text = [output.stdout.as_slice(), &output.stderr].concat();
    let text = String::from_utf8(text).expect("output is text");
    let is_hash = |word: &&str| {
        word.len() == 64 && word.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let found = text.split(|c: char| c.is_whitespace() || ",;\"".contains(c)).find(is_hash);
    found.unwrap_or_else(|| panic!("no hash in {text}")).to_string()
}

/// Whether a field's text stands for a value: integers as decimals at their scale, quotients as
/// the fewest digits that read back, null as nothing.
pub fn is_written(view: &View, output: Output, cell: &Cell, text: &str) -> bool {
    match cell {
        Cell::Null => text.is_empty(),
        Cell::Integer(value) => {
            let scale = match output {
                Output::Count | Output::CountOf(_) => 0,
                Output::Sum(c) | Output::Min(c) | Output::Max(c) => view.scales[c],
                Output::Notional(p, s) => view.scales[p] + view.scales[s],
                Output::First(c) | Output::Last(c) => view.scales[c],
                Output::Quantile(c, _) | Output::ApproxQuantile(c, _) => view.scales[c],
                _ => return false,
            };
            let digits = i128::try_from(value).expect("an output fits 128 bits");
            text == Decimal { digits, scale }.to_string()
        }
        Cell::Float(value) => {
            let digits = |text: &str| {
                let mantissa = text.split(['e', 'E']).next().unwrap_or("").replace(['.', '-'], "");
                mantissa.trim_matches('0').len()
            };
            let reads_back = text.parse().is_ok_and(|x: f64| x.to_bits() == value.to_bits());
            reads_back && digits(text) == digits(&format!("{value:e}"))
        }
    }
}
