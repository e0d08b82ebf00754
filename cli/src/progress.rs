//! A bar on standard error while something long runs; nothing where no terminal is.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar that fills up to `total` of `unit`.
pub(crate) fn bar(total: u64, unit: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(total);
    let template = format!("{{bar:32}} {{human_pos}}/{{human_len}} {unit}, {{eta}}");
    bar.set_style(style(&template));
    bar
}

/// A bar over `total` bytes of input, with a message beside it.
pub(crate) fn bytes(total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    bar.set_style(style("{bar:32} {bytes}/{total_bytes}, {msg}, {eta}"));
    bar
}

/// A sign of life where the total is not known, with a message beside it.
pub(crate) fn spinner() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    bar.set_style(style("{spinner} {msg}"));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates of this file are valid")
}
