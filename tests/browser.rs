//! A run's `report.html` in headless Chromium, found by `LOSPARSE_CHROMIUM` or `PATH`. Without it,
//! these tests print that they skip; with `LOSPARSE_REQUIRE=chromium` they fail.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use resvg::tiny_skia::Pixmap;
use serde_json::Value;

use super::cli::{Place, refs, stdout, text};

const WIDTH: u32 = 1000;
const HEIGHT: u32 = 4400;
/// Longest time for a page.
const LIMIT: Duration = Duration::from_secs(120);

/// A script that gathers facts about a loaded page: errors, requests, pictures and the share of the
/// page that they cover.
const PROBE: &str = r#"<script>
const errors = [];
addEventListener('error', event => errors.push(String(event.message || event.target)), true);
addEventListener('load', () => {
    const size = element => {
        const box = element.getBoundingClientRect();
        return { width: box.width, height: box.height };
    };
    const pictures = [...document.querySelectorAll('figure')].map(figure => {
        const drawing = figure.querySelector('svg, img');
        return {
            name: figure.id,
            kind: drawing && drawing.tagName.toLowerCase(),
            marks: drawing ? drawing.querySelectorAll('path, line, polyline, circle, rect').length : 0,
            text: drawing ? drawing.textContent.trim().length : 0,
            ...(drawing ? size(drawing) : {}),
        };
    });
    const found = {
        errors,
        requests: performance.getEntriesByType('resource').map(entry => entry.name),
        pictures,
        images: document.images.length,
        tables: [...document.querySelectorAll('table')].map(table => table.rows.length),
        overflow: document.documentElement.scrollWidth - innerWidth,
        height: document.documentElement.scrollHeight,
    };
    const element = document.createElement('script');
    element.type = 'application/json';
    element.id = 'found';
    element.textContent = JSON.stringify(found);
    document.head.append(element);
});
</script>
"#;

/// A page as the browser shows it.
struct Seen {
    /// Values that the script collected.
    found: Value,
    /// The document in the browser.
    dom: String,
    /// Lines of the browser's console.
    console: Vec<String>,
    screenshot: Pixmap,
}

/// The browser; `None` if there is none and none is required.
fn chromium() -> Option<PathBuf> {
    let named = std::env::var_os("LOSPARSE_CHROMIUM").map(PathBuf::from);
    if let Some(named) = &named {
        assert!(named.is_file(), "LOSPARSE_CHROMIUM: no such file as {}", named.display());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let installed = names
        .iter()
        .flat_map(|name| folders.iter().map(move |f| f.join(name)))
        .find(|f| f.is_file());
    let found = named.or(installed);
    if found.is_none() {
        let required = std::env::var("LOSPARSE_REQUIRE").unwrap_or_default();
        let required = required.split(',').any(|name| name.trim() == "chromium");
        assert!(
            !required,
            "chromium is required, but neither LOSPARSE_CHROMIUM nor PATH names one"
        );
        println!("SKIPPED: no chromium; install one or name it by LOSPARSE_CHROMIUM");
    }
    found
}

/// Runs a program with its output in files, since a child that outlives it would keep a pipe open.
/// `None` if it took longer than `limit` and was killed.
fn run_within(
    limit: Duration,
    command: &mut Command,
    out: &Path,
    log: &Path,
) -> Option<ExitStatus> {
    let [out, log] = [out, log].map(|path| fs::File::create(path).unwrap());
    let mut child = command.stdin(Stdio::null()).stdout(out).stderr(log).spawn().unwrap();
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        if started.elapsed() > limit {
            child.kill().unwrap();
            child.wait().unwrap();
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Opens a page twice: for its document and for a picture of it.
fn open(chromium: &Path, page: &str) -> Seen {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("page.html");
    fs::write(&file, page.replacen("<head>", &format!("<head>\n{PROBE}"), 1)).unwrap();
    let picture = folder.path().join("page.png");
    let run = |what: &str| {
        let mut command = Command::new(chromium);
        command
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"])
            .args([
                "--enable-logging=stderr",
                "--no-first-run",
                "--disable-dev-shm-usage",
                "--disable-extensions",
            ])
            // Requests of the page fail.
            .args(["--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND"])
            .args(["--virtual-time-budget=5000", "--force-device-scale-factor=1"])
            .arg(format!("--window-size={WIDTH},{HEIGHT}"))
            .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
            .arg(what)
            .arg(format!("file://{}", file.display()));
        let [out, log] = ["out", "log"].map(|name| folder.path().join(name));
        let status = run_within(LIMIT, &mut command, &out, &log);
        let [out, log] = [out, log].map(|path| text(&fs::read(path).unwrap()));
        match status {
            Some(status) => assert!(status.success(), "{what}: {status}\n{log}"),
            None => panic!("{what}: the browser was not done within {LIMIT:?}\n{log}"),
        }
        (out, log)
    };
    let (dom, log) = run("--dump-dom");
    run(&format!("--screenshot={}", picture.display()));
    let start = "<script type=\"application/json\" id=\"found\">";
    let found = dom.split_once(start).and_then(|(_, rest)| rest.split_once("</script>"));
    let (found, _) = found.unwrap_or_else(|| panic!("the page did not load:\n{dom}\n{log}"));
    Seen {
        found: serde_json::from_str(found).unwrap(),
        console: log.lines().filter(|line| line.contains("CONSOLE")).map(String::from).collect(),
        screenshot: Pixmap::load_png(&picture).unwrap(),
        dom,
    }
}

/// Attributes and `url(…)` values that make a browser fetch something.
fn sources(dom: &str) -> Vec<String> {
    let attribute = r#"(?:src|srcset|href|data|poster|action)\s*=\s*["']([^"'#]+)["']"#;
    let pattern =
        regex::Regex::new(&format!(r#"{attribute}|url\(["']?([^)"'#]+)|@import\s+([^;]+)"#));
    let pattern = pattern.unwrap();
    let groups = pattern.captures_iter(dom);
    let sources =
        groups.filter_map(|found| found.iter().skip(1).flatten().next().map(|m| m.as_str()));
    sources.filter(|source| !source.starts_with("data:")).map(String::from).collect()
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|entry| entry.as_str().unwrap()).collect()
}

#[test]
fn a_report_renders_from_its_file_alone() {
    let Some(chromium) = chromium() else { return };
    let place = Place::new();
    let method = ["--ratio", "0.4", "--low-rank-ratio", "0.2", "--epochs", "4"];
    stdout(&refs(&place.run("compress", "small", &method)));
    let page = fs::read_to_string(place.path("small/report.html")).unwrap();
    let seen = open(&chromium, &page);
    let found = &seen.found;

    assert_eq!(strings(&found["errors"]), [""; 0]);
    assert_eq!(seen.console, [""; 0]);
    assert_eq!(strings(&found["requests"]), [""; 0]);
    assert_eq!(sources(&seen.dom), [""; 0]);

    let pictures = found["pictures"].as_array().unwrap();
    let names: Vec<&str> = pictures.iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["schedule", "kept", "importance-before", "importance", "spectra"]);
    for picture in pictures {
        assert_eq!(picture["kind"], "svg", "{picture}");
        let number = |name: &str| picture[name].as_f64().unwrap();
        assert!(number("width") > 500.0 && number("width") <= 900.0, "{picture}");
        assert!(number("height") > 200.0, "{picture}");
        assert!(number("marks") > 10.0 && number("text") > 20.0, "{picture}");
    }
    let tables = found["tables"].as_array().unwrap();
    assert!(tables.iter().any(|rows| rows.as_u64() > Some(12)), "12 layers in one of {tables:?}");
    assert!(found["overflow"].as_f64().unwrap() <= 0.0, "wider than the window: {found}");
    check_screenshot(&seen.screenshot);
    if let Some(folder) = std::env::var_os("LOSPARSE_SCREENSHOTS") {
        seen.screenshot.save_png(Path::new(&folder).join("report.png")).unwrap();
    }
}

/// Checks the picture: a white column on grey, with text and lines of plots in it.
fn check_screenshot(image: &Pixmap) {
    assert_eq!((image.width(), image.height()), (WIDTH, HEIGHT));
    let colour = |x, y| {
        let pixel = image.pixel(x, y).unwrap();
        [pixel.red(), pixel.green(), pixel.blue()]
    };
    assert_eq!(colour(3, 3), [0xf4, 0xf5, 0xf7]);
    assert_eq!(colour(60, 3), [255; 3]);
    let all = (0..HEIGHT).flat_map(|y| (0..WIDTH).map(move |x| colour(x, y)));
    let (mut colours, mut dark, mut colourful) = (HashSet::new(), 0, 0);
    for [r, g, b] in all {
        colours.insert([r, g, b]);
        dark += u32::from(r.max(g).max(b) < 96);
        colourful += u32::from(r.max(g).max(b) - r.min(g).min(b) > 80);
    }
    assert!(colours.len() > 100, "{} colours", colours.len());
    let share = |pixels: u32| f64::from(pixels) / f64::from(WIDTH * HEIGHT);
    assert!(share(dark) > 0.002, "hardly any text: {}", share(dark));
    assert!(share(colourful) > 0.0005, "hardly any plots: {}", share(colourful));
}

/// The checks above fail for a page with what a report must not have.
#[test]
fn what_a_report_must_not_have_is_noticed() {
    let Some(chromium) = chromium() else { return };
    let page = "<!DOCTYPE html><html><head><title>bad</title><style>body { background: \
                url(http://localhost:9/back.png) }</style></head><body><img src=\"http://localhost:9/x.png\">\
                <figure id=\"hidden\" style=\"display: none\"><svg></svg></figure>\
                <script>console.error('oh'); missing.call();</script></body></html>";
    let seen = open(&chromium, page);
    assert!(!strings(&seen.found["errors"]).is_empty(), "{}", seen.found);
    assert!(seen.console.iter().any(|line| line.contains("oh")), "{:?}", seen.console);
    let requests = strings(&seen.found["requests"]);
    assert!(requests.contains(&"http://localhost:9/x.png"), "{requests:?}");
    let expected = ["http://localhost:9/back.png", "http://localhost:9/x.png"];
    let sources = sources(&seen.dom);
    assert!(expected.iter().all(|e| sources.iter().any(|s| s == e)), "{sources:?}");
    assert_eq!(seen.found["pictures"][0]["width"], 0);
    let first = seen.screenshot.pixels()[0];
    assert!(seen.screenshot.pixels().iter().filter(|pixel| **pixel != first).count() < 10_000);
}

#[cfg(unix)]
#[test]
fn a_browser_that_hangs_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let [out, log] = ["out", "log"].map(|name| folder.path().join(name));
    let mut hanging = Command::new("sh");
    hanging.args(["-c", "echo here; exec sleep 600"]);
    assert_eq!(run_within(Duration::from_millis(200), &mut hanging, &out, &log), None);
    let mut done = Command::new("sh");
    done.args(["-c", "echo done >&2; exit 3"]);
    let status = run_within(LIMIT, &mut done, &out, &log).unwrap();
    assert_eq!((status.code(), fs::read_to_string(&log).unwrap().as_str()), (Some(3), "done\n"));
}
