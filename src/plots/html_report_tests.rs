use resvg::usvg::roxmltree::{Document, ParsingOptions};

use super::*;
use crate::inspect::{Warning, WarningKind, report_for_tests as report};
use crate::plots::Spectrum;
use crate::pruning::LayerScores;

fn analysis() -> RunAnalysis {
    let scores =
        LayerScores { name: "a".into(), kept: vec![0.5, 0.25, 0.125], pruned: vec![0.0, 0.01] };
    RunAnalysis {
        importance: vec![scores.clone()],
        importance_before: vec![scores],
        spectra: vec![Spectrum { name: "a".into(), values: vec![3.0, 2.0, 0.5] }],
    }
}

#[test]
fn the_page_is_well_formed_and_loads_nothing() {
    let html = render(&report(), &analysis()).unwrap();
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    let page = Document::parse_with_options(&html, options).unwrap();
    let elements = || page.descendants().filter(|node| node.is_element());
    for element in elements() {
        let tag = element.tag_name().name();
        assert!(
            !["script", "link", "img", "iframe", "image", "use", "base"].contains(&tag),
            "{tag}"
        );
        for attribute in element.attributes() {
            assert!(!["src", "href", "srcset", "data"].contains(&attribute.name()), "{tag}");
            assert!(!attribute.value().contains("url("), "{}", attribute.value());
        }
    }
    assert!(!STYLE.contains("url(") && !STYLE.contains("@import"));
    let figures: Vec<&str> = elements().filter_map(|e| e.attribute("id")).collect();
    assert_eq!(figures, ["schedule", "kept", "importance-before", "importance", "spectra"]);
    assert_eq!(elements().filter(|e| e.tag_name().name() == "svg").count(), 5);
    let text: String = page.descendants().filter_map(|node| node.text()).collect();
    for part in [
        "Compression: rte",
        "accuracy 0.6600 (majority 0.5271)",
        "×2.50",
        "layer.0.query",
        "4,467,776",
    ] {
        assert!(text.contains(part), "no {part:?}");
    }
    assert!(html.contains("accuracy (majority: 0.5271) (before: 0.7000)"));
    let order = ["Method", "Pictures", "Layers"].map(|title| html.find(&format!("<h2>{title}")));
    assert!(order.is_sorted() && order[0].is_some(), "{order:?}");
}

#[test]
fn the_dense_model_is_set_beside() {
    let mut report = report();
    let metrics = report.starting.clone();
    report.baseline =
        Some(crate::inspect::Baseline { report: "tuned".into(), metrics, other_start: false });
    let html = render(&report, &analysis()).unwrap();
    for part in
        ["accuracy (majority: 0.5271) (dense, fine-tuned: 0.7000)", "<td>dense, fine-tuned</td>"]
    {
        assert!(html.contains(part), "no {part:?} in {html}");
    }
}

#[test]
fn warnings_are_read_before_any_figure() {
    let mut report = report();
    let message = "<b>100.0%</b> are stored".to_string();
    report.warnings = vec![Warning { kind: WarningKind::LargerThanAsked, message }];
    let html = render(&report, &analysis()).unwrap();
    assert_eq!(html.matches("&lt;b&gt;100.0%").count(), 1, "{html}");
    let order = ["<h1>", "<blockquote>", "<strong>Warning:", "<section>", "<h2>Method"];
    let order = order.map(|part| html.find(part));
    assert!(order.is_sorted() && order[0].is_some(), "{order:?}");
}

#[test]
fn names_stay_text() {
    let mut report = report();
    report.task.name = "<script>alert(1)</script> ![x](http://example.org/x.png)".into();
    report.model = "a`<img src=\"http://example.org\"/>".into();
    report.account.layers[0].name = "<a href=\"http://example.org\">x</a>".into();
    let html = render(&report, &RunAnalysis::default()).unwrap();
    for tag in ["<script", "<img", "<a "] {
        assert!(!html.contains(tag), "{tag} in {html}");
    }
    assert!(html.contains("<title>Compression: &lt;script&gt;"));
}
