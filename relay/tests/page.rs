//! The status page in a real browser: nothing is blocked, nothing sticks out on a phone, everything can be read in the
//! light and in the dark.
//!
//! Left out where there is no Chromium; `cargo xtask test` installs it and says `KITH_TEST_CHROMIUM=1`: then it must be there.
//! With `KITH_PICTURES=DIR` the pictures are left there to be looked at.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use support::http::get;
use support::process::Process;

const OPERATOR: &str = r#"
external = ["/dns4/relay.with-a-rather-long-name.example.org/tcp/4190"]
[operator]
name = "Verein für freie Netze <Nord> & Donaudampfschifffahrtselektrizitätenhauptbetriebswerk"
contact = "https://netze.example.org/ein/sehr/langer/weg/der/nirgends/umgebrochen/werden/kann?und=noch&mehr=davon"
about = "We run this relay for our members and friends.\n\nMaintenance is on the first Sunday of a month."
"#;

/// Measures the page in frames of several widths: what sticks out, how small and how faint letters are.
const MEASURE: &str = r#"<!doctype html><meta charset="utf-8"><body><pre id="result"></pre><script>
const luminance = c => { const [r, g, b] = c.match(/[\d.]+/g).map(Number).map(v => v / 255)
  .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const ground = (view, e) => { for (; e; e = e.parentElement) { const c = view.getComputedStyle(e).backgroundColor;
  if (!c.startsWith('rgba(0, 0, 0, 0')) return c; } return 'rgb(255, 255, 255)'; };
const measure = (width) => new Promise(done => { const frame = document.createElement('iframe');
  frame.style.cssText = `width:${width}px;height:1200px;border:0;color-scheme:light dark`;
  frame.onload = () => { const view = frame.contentWindow, page = frame.contentDocument; const out = { width,
      content: page.documentElement.scrollWidth, contrast: 99, faintest: '', letters: 99, texts: 0,
      dark: view.matchMedia('(prefers-color-scheme: dark)').matches, cut: [] };
    for (const e of page.body.querySelectorAll('*')) {
      if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
      const style = view.getComputedStyle(e), a = luminance(style.color), b = luminance(ground(view, e));
      const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      if (contrast < out.contrast) { out.contrast = contrast; out.faintest = e.textContent.slice(0, 40); }
      out.letters = Math.min(out.letters, parseFloat(style.fontSize)); out.texts++;
      const box = e.getBoundingClientRect();
      if (box.right > width + 1 || box.left < -1) out.cut.push(e.textContent.slice(0, 40));
    }
    done(out); };
  frame.srcdoc = PAGE; document.body.append(frame); });
Promise.all([320, 390, 1280].map(measure)).then(all => { document.getElementById('result').textContent = JSON.stringify(all); });
</script>"#;

fn chromium() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found =
        std::env::split_paths(&path).map(|folder| folder.join("chromium")).find(|file| file.is_file());
    assert!(
        found.is_some() || std::env::var_os("KITH_TEST_CHROMIUM").is_none_or(|value| value != "1"),
        "chromium is required and missing: apt-get install chromium"
    );
    found
}

/// Runs it once; what it wrote to standard output and standard error.
fn browse(program: &Path, dark: bool, args: &[&str]) -> (String, String) {
    let profile = tempfile::tempdir().unwrap();
    let scheme = format!("--blink-settings=preferredColorScheme={}", u8::from(!dark));
    let output = Command::new(program)
        // a test that runs as root has no sandbox
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
        ])
        .args([
            "--hide-scrollbars",
            "--enable-logging=stderr",
            "--log-level=0",
            "--virtual-time-budget=5000",
            &scheme,
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_status_page_can_be_read_on_a_phone_and_on_a_desk_in_the_light_and_in_the_dark() {
    let Some(program) = chromium() else {
        return eprintln!("skipped: there is no chromium here");
    };
    let relay = Process::started(OPERATOR);
    let folder = tempfile::tempdir().unwrap();
    let pictures = std::env::var_os("KITH_PICTURES").map_or_else(|| folder.path().to_owned(), PathBuf::from);
    let url = format!("{}/", relay.web);
    let mut sizes = Vec::new();
    for (dark, size) in [(false, "390,1900"), (true, "390,1900"), (false, "1280,1400")] {
        let name =
            format!("status-{}-{}.png", if dark { "dark" } else { "light" }, size.split(',').next().unwrap());
        let picture = pictures.join(name);
        let args =
            [format!("--screenshot={}", picture.display()), format!("--window-size={size}"), url.clone()];
        let (_, errors) = browse(&program, dark, &args.each_ref().map(String::as_str));
        for complaint in ["Refused to", "violates the following", "CONSOLE"] {
            assert!(!errors.contains(complaint), "the browser complains: {errors}");
        }
        sizes.push(picture.metadata().unwrap().len());
    }
    assert!(sizes.iter().all(|size| *size > 20_000), "{sizes:?}");
    let (dom, _) = browse(&program, false, &["--dump-dom", &url]);
    assert!(
        dom.contains("Verein für freie Netze &lt;Nord&gt; &amp; Donau") && dom.contains("Working normally"),
        "{dom}"
    );

    let style = format!("<style>{}</style>", get(&relay.web, "/style.css").body);
    let page = get(&relay.web, "/").body.replace("<link rel=\"stylesheet\" href=\"/style.css\">", &style);
    assert!(page.contains("<style>"));
    let quoted = serde_json::to_string(&page).unwrap().replace("</", "<\\/");
    let harness = folder.path().join("measure.html");
    std::fs::write(&harness, MEASURE.replace("PAGE;", &format!("{quoted};"))).unwrap();
    for dark in [false, true] {
        let (dom, errors) = browse(&program, dark, &["--dump-dom", &format!("file://{}", harness.display())]);
        let result =
            dom.split("<pre id=\"result\">").nth(1).and_then(|rest| rest.split("</pre>").next()).unwrap();
        let result = result.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
        let measured: Vec<Value> =
            serde_json::from_str(&result).unwrap_or_else(|_| panic!("{result} {errors}"));
        assert_eq!(measured.len(), 3);
        for at in measured {
            assert_eq!(at["dark"], dark, "{at}");
            assert_eq!(at["content"], at["width"], "it must not be scrolled sideways: {at}");
            assert_eq!(at["cut"], serde_json::json!([]), "{at}");
            // WCAG 2.2 AA
            assert!(at["contrast"].as_f64().unwrap() >= 4.5, "{at}");
            assert!(at["letters"].as_f64().unwrap() >= 13.0, "{at}");
            assert!(at["texts"].as_u64().unwrap() > 25, "{at}");
        }
    }
}
