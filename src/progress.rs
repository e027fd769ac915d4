//! Progress of long work: on a terminal only, on standard error.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over `total` of `unit`, or a counter when the total is not known. Nothing is drawn when
/// standard error is no terminal.
pub fn bar(what: &str, total: Option<u64>, unit: &str) -> ProgressBar {
    let bar = match total {
        Some(total) => ProgressBar::new(total),
        None => ProgressBar::no_length(),
    };
    let template = match (total, unit) {
        (Some(_), "bytes") => "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}".into(),
        (Some(_), unit) => {
            format!("{{msg}} {{wide_bar}} {{human_pos}}/{{human_len}} {unit} {{per_sec}} {{eta}}")
        }
        (None, unit) => format!("{{msg}} {{spinner}} {{human_pos}} {unit} {{per_sec}}"),
    };
    bar.set_style(ProgressStyle::with_template(&template).expect("the templates are constants"));
    bar.set_message(what.to_owned());
    // Each steady tick is a thread.
    if !bar.is_hidden() {
        bar.enable_steady_tick(Duration::from_millis(200));
    }
    bar
}
