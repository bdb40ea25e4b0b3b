//! The bench's two forms of output: a table for people, JSON for `make bench`.

use std::fmt::Write;

use crate::recall::Agreement;

/// The result of one case.
pub(crate) struct Row {
    pub shape: &'static str,
    pub element: &'static str,
    pub kernel: &'static str,
    pub cached_us: f64,
    pub cold_us: f64,
    /// The peak compared with, and the share of it reached, cached.
    pub peak: Option<(&'static str, f64)>,
}

/// Prints everything. A peak is its name, its measured rate, and what clock and width promise, per second.
pub(crate) fn print(clock: f64, peaks: &[(&str, f64, f64)], rows: &[Row], recall: &[Agreement]) {
    println!("clock {:.2} GHz", clock / 1e9);
    for (name, rate, promised) in peaks {
        println!(
            "peak {name:<9} {:7.0} Gop/s, {:.0} % of clock x width",
            rate / 1e9,
            100.0 * rate / promised
        );
    }
    println!("\n| shape | element | kernel | cached us | cold us | share of peak, cached |");
    println!("|---|---|---|---:|---:|---|");
    for row in rows {
        let share = row.peak.map_or("-".to_owned(), |(name, share)| {
            format!("{:.1} % of {name}", 100.0 * share)
        });
        println!(
            "| {} | {} | {} | {:.2} | {:.2} | {share} |",
            row.shape, row.element, row.kernel, row.cached_us, row.cold_us
        );
    }
    if !recall.is_empty() {
        println!(
            "\n| element | agreement of the best 10 with exact | after exact scores of its best 100 |"
        );
        println!("|---|---:|---:|");
    }
    for agreement in recall {
        println!(
            "| {} | {:.4} | {:.4} |",
            agreement.element, agreement.best_10, agreement.of_best_100
        );
    }
}

/// Everything as JSON.
pub(crate) fn json(
    rounds: usize,
    clock: f64,
    peaks: &[(&str, f64, f64)],
    rows: &[Row],
    recall: &[Agreement],
) -> String {
    let mut out = String::new();
    let peaks: Vec<String> = peaks
        .iter()
        .map(|(name, rate, promised)| {
            format!(
                r#"{{"name": "{name}", "gops": {:.1}, "clock_x_width_gops": {:.1}}}"#,
                rate / 1e9,
                promised / 1e9
            )
        })
        .collect();
    let cases: Vec<String> = rows.iter().map(case).collect();
    let recall: Vec<String> = recall
        .iter()
        .map(|agreement| {
            format!(
                r#"{{"element": "{}", "best_10": {:.4}, "of_best_100": {:.4}}}"#,
                agreement.element, agreement.best_10, agreement.of_best_100
            )
        })
        .collect();
    let list = |items: Vec<String>| items.join(",\n    ");
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "{{\n  \"rounds\": {rounds},\n  \"clock_ghz\": {:.3},\n  \"peaks\": [\n    {}\n  ],\n  \"cases\": [\n    {}\n  ],\n  \"recall\": [\n    {}\n  ]\n}}",
        clock / 1e9,
        list(peaks),
        list(cases),
        list(recall)
    );
    out
}

fn case(row: &Row) -> String {
    let (peak, share) = row
        .peak
        .map_or(("null".to_owned(), "null".to_owned()), |(name, share)| {
            (format!("\"{name}\""), format!("{share:.4}"))
        });
    format!(
        r#"{{"shape": "{}", "element": "{}", "kernel": "{}", "cached_us": {:.3}, "cold_us": {:.3}, "peak": {peak}, "share": {share}}}"#,
        row.shape, row.element, row.kernel, row.cached_us, row.cold_us
    )
}
