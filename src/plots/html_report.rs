//! A run's report as one self-contained HTML file: its Markdown with inline pictures.

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd, html};

use super::{RunAnalysis, run_figures};
use crate::Result;
use crate::inspect::{RunReport, percent, visible, warnings_markdown};
use crate::tasks::MetricKind;

const STYLE: &str = include_str!("html_report.css");

/// Renders the whole report.
///
/// # Errors
/// If a picture cannot be drawn.
pub(super) fn render(report: &RunReport, analysis: &RunAnalysis) -> Result<String> {
    let markdown = report.to_markdown();
    // Pictures come before the long table of layers.
    let (head, layers) = match markdown.find("\n## Layers\n") {
        Some(at) => markdown.split_at(at),
        None => (markdown.as_str(), ""),
    };
    // The title, the warnings, the main figures, then the rest.
    let (title, head) = head.split_once('\n').unwrap_or((head, ""));
    let mut body = to_html(title);
    let warnings = warnings_markdown(report);
    body += &to_html(&warnings);
    body += &highlights(report);
    body += &to_html(head.trim_start().strip_prefix(warnings.as_str()).unwrap_or(head));
    let figures = run_figures(report, analysis);
    if !figures.is_empty() {
        body += "<h2>Pictures</h2>\n";
    }
    for (name, figure) in figures {
        let svg = figure.to_svg()?;
        body += &format!("<figure id=\"{name}\">\n{svg}</figure>\n");
    }
    body += &to_html(layers);
    let what = if report.method.is_some() { "Compression" } else { "Fine-tuning" };
    let title = escape(&format!("{what}: {}", visible(&report.task.name)));
    Ok(format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n<meta \
         name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>{title}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    ))
}

/// Converts Markdown to HTML. HTML stays text, and links and images are dropped: names from files may
/// hold anything.
fn to_html(markdown: &str) -> String {
    let is_reference = |event: &Event<'_>| {
        matches!(
            event,
            Event::Start(Tag::Link { .. } | Tag::Image { .. })
                | Event::End(TagEnd::Link | TagEnd::Image)
        )
    };
    let plain = |event| match event {
        Event::Html(text) | Event::InlineHtml(text) => Event::Text(text),
        other => other,
    };
    let events = Parser::new_ext(markdown, Options::ENABLE_TABLES);
    let mut text = String::new();
    html::push_html(&mut text, events.filter(|event| !is_reference(event)).map(plain));
    text.replace("<table>", "<div class=\"table\"><table>").replace("</table>", "</table></div>")
}

/// The main figures, in large type.
fn highlights(report: &RunReport) -> String {
    let mut tiles: Vec<(String, String)> = Vec::new();
    if let Some(after) = report.result() {
        let mut label = after.primary.to_string();
        if let (MetricKind::Accuracy, Some(share)) = (after.primary, after.majority_share) {
            label += &format!(" (majority: {share:.4})");
        }
        let dense = report.baseline.as_ref().and_then(|baseline| baseline.metrics.first());
        if let Some(dense) = dense {
            label += &format!(" (dense, fine-tuned: {:.4})", dense.metrics.primary_value());
        } else if let Some(before) = report.starting.first() {
            label += &format!(" (before: {:.4})", before.metrics.primary_value());
        }
        tiles.push((format!("{:.4}", after.primary_value()), label));
    }
    if report.method.is_some() {
        let account = &report.account;
        tiles.push((percent(account.linear_ratio()), "of the compressed layers' weights".into()));
        tiles.push((percent(account.whole_ratio()), "of the whole model".into()));
    }
    if let Some(row) = report.latency.as_ref().and_then(|latency| latency.contestants.last()) {
        let label = format!("{:.2} ms, against the model started from", row.median_ms);
        tiles.push((format!("×{:.2}", row.speedup), label));
    }
    let tile = |(value, label): &(String, String)| {
        format!("<div><strong>{}</strong><span>{}</span></div>\n", escape(value), escape(label))
    };
    format!("<section>\n{}</section>\n", tiles.iter().map(tile).collect::<String>())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
#[path = "html_report_tests.rs"]
mod tests;
