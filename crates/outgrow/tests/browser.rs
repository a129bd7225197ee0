//! Reports in a real browser, wide and on a phone: nothing is cut off, nothing lies over something else, nothing is empty.
//! With `OUTGROW_KEEP_REPORT=FOLDER` pictures of the pages are kept there, to be looked at. Skips where there is no
//! Chromium.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Dice, GLYPHS, Place, skipped};
use serde_json::Value as Json;

/// What Chromium is called.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// Looks at the page from inside, and tells the page around it what it found.
const PROBE: &str = r#"<script>
const found = [], wide = document.documentElement.clientWidth;
const shown = e => { const b = e.getBoundingClientRect(); return b.width > 0 && b.height > 0; };
const name = e => e.tagName + '.' + (e.getAttribute('class') || '') + ' ' + e.textContent.trim().slice(0, 40);
for (const e of document.querySelectorAll('body *')) {
  if (!shown(e) || ['SCRIPT', 'TITLE'].includes(e.tagName)) continue;
  const b = e.getBoundingClientRect();
  // What a box scrolls within itself is judged by that box.
  if (e.closest('.scroll, pre') === null && (b.left < -1 || b.right > wide + 1)) found.push('beyond the page: ' + name(e));
  const style = getComputedStyle(e);
  if (e.namespaceURI.endsWith('html') && style.display !== 'inline' && e.scrollWidth > e.clientWidth + 1)
    found.push((e.tagName === 'PRE' ? 'code: ' : 'cut off: ') + name(e));
  if (['DD', 'H1', 'H2', 'SECTION'].includes(e.tagName) && e.textContent.trim() === '') found.push('empty: ' + name(e));
}
for (const svg of document.querySelectorAll('svg')) {
  const frame = svg.getBoundingClientRect();
  const texts = [...svg.querySelectorAll('text')].filter(shown).map(t => [t, t.getBoundingClientRect()]);
  texts.forEach(([t, b], i) => {
    if (b.left < frame.left - 1 || b.right > frame.right + 1 || b.top < frame.top - 2 || b.bottom > frame.bottom + 2)
      found.push('beyond its drawing: ' + name(t));
    for (const [u, c] of texts.slice(i + 1)) {
      const x = Math.min(b.right, c.right) - Math.max(b.left, c.left), y = Math.min(b.bottom, c.bottom) - Math.max(b.top, c.top);
      if (x > 1 && y > 4) found.push('over each other: ' + name(t) + ' | ' + name(u));
    }
  });
}
parent.postMessage(JSON.stringify({ wide, found, sections: document.querySelectorAll('section').length }), '*');
</script>"#;

fn browser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let all = std::env::split_paths(&path).flat_map(|folder| NAMES.map(|name| folder.join(name)));
    all.into_iter().find(|file| file.is_file())
}

/// Runs the browser without a window, as wide as that, and gives its stdout.
fn browse(browser: &Path, home: &Path, width: u32, more: &[&str], page: &Path) -> String {
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"])
        .arg(format!("--user-data-dir={}", home.display()))
        .args(more)
        .arg(format!("--window-size={width},8000"))
        .arg(format!("file://{}", page.display()))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What is wrong with a page at this width.
fn look(browser: &Path, place: &Place, page: &str, width: u32) -> Json {
    let home = place.path("browser");
    place.write("probed.html", place.read(page).replace("</body>", &format!("{PROBE}</body>")));
    // A window is never as narrow as a phone; a frame in it may be.
    let frame = format!(
        "<!doctype html><iframe src=\"probed.html\" style=\"border:0;width:{width}px;height:8000px\"></iframe><script>\
         onmessage = e => {{ const p = document.createElement('pre'); p.id = 'found'; p.textContent = e.data; \
         document.body.append(p); }};</script>"
    );
    place.write("frame.html", frame);
    let more = ["--dump-dom", "--virtual-time-budget=2000"];
    let dom = browse(browser, &home, 1400, &more, &place.path("frame.html"));
    let found = dom.split(r#"<pre id="found">"#).nth(1).and_then(|rest| rest.split("</pre>").next());
    let text = found.unwrap_or_else(|| panic!("the page was not run: {dom}"));
    if let Some(folder) = std::env::var_os("OUTGROW_KEEP_REPORT") {
        let picture = Path::new(&folder).join(format!("{}-{width}.png", page.replace('/', "-")));
        let flag = format!("--screenshot={}", picture.display());
        browse(browser, &home, width, &[&flag], &place.path(page));
    }
    let plain = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&");
    serde_json::from_str(&plain).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// A table with a class, a quantity and numbers that say something of both.
fn table() -> String {
    let mut dice = Dice(4);
    let mut text = "age of the house,distance,kind,price in thousands\n".to_owned();
    for _ in 0..300 {
        let (a, b) = (dice.fraction(), dice.fraction());
        let kind = if a + 0.3 * dice.fraction() > 0.7 { "detached house" } else { "flat" };
        text += &format!("{a},{b},{kind},{}\n", 1200.0 * a - 300.0 * b + 90.0 * dice.fraction());
    }
    text
}

const SPLIT: &str = "source = \"csv\"\nfiles = \"t.csv\"\nsplit = { validation = 0.15, test = 0.2 }\n\
    clean = [{ one_hot = { columns = \"text\" } }]\n";

#[test]
fn reports_fit_a_screen_and_a_phone() {
    let Some(browser) = browser() else { return skipped("there is no Chromium to look at the pages with") };
    let place = Place::new();
    place.write("t.csv", table());
    place.write("t.txt", "To be, or not to be, that is the question. ".repeat(200));
    let realmlp = "[model]\nname = \"realmlp\"\nhidden = [16]\n[train]\n";
    for (name, manifest) in [
        ("pictures", format!("{GLYPHS}augment = {{ crop = {{ padding = 2 }} }}\n[model]\nname = \"lenet\"\n[train]\nepochs = 3\nbatch = 20\n")),
        ("classes", format!("[data]\n{SPLIT}label = \"kind\"\n{realmlp}decision_threshold = \"f1\"\n")),
        ("numbers", format!("[data]\n{SPLIT}label = \"price in thousands\"\n{realmlp}")),
        ("several", format!("[data]\n{SPLIT}label = [\"price in thousands\", \"distance\"]\n{realmlp}epochs = 20\n")),
        (
            "text",
            "[data]\nsource = \"text\"\nfiles = \"t.txt\"\ncontext = 16\nsplit = { validation = 0.1 }\n[model]\nname = \"gpt\"\n\
             layers = 1\nheads = 2\nwidth = 16\n[train]\nsteps = 40\nbatch = 16\neval_every_steps = 10\nschedule = \"cosine\"\n"
                .to_owned(),
        ),
    ] {
        place.write(&format!("{name}.toml"), manifest);
        place.json(&["run", &format!("{name}.toml")]);
    }
    place.json(&["run", "classes.toml", "--folds", "5", "--out", "runs/folds"]);
    place.json(&["run", "numbers.toml", "--folds", "3", "--out", "runs/number-folds"]);
    place.json(&["runs", "compare", "classes", "numbers", "--html", "compared.html"]);
    let pages = ["pictures", "classes", "numbers", "several", "text", "folds", "number-folds"];
    let pages = pages.map(|run| format!("runs/{run}/report.html"));
    let mut wrong = Vec::new();
    for page in pages.iter().map(String::as_str).chain(["compared.html"]) {
        for width in [1280, 390] {
            let seen = look(&browser, &place, page, width);
            assert_eq!(seen["wide"], width, "{page}");
            assert!(seen["sections"].as_u64().unwrap() > 3, "{page}: {seen}");
            for found in seen["found"].as_array().unwrap() {
                // A manifest's long lines may be scrolled, and a table of runs beside each other too.
                let may = ["code: ", "cut off: DIV.scroll"][usize::from(page == "compared.html")];
                let found = found.as_str().unwrap();
                if !found.starts_with(may) {
                    wrong.push(format!("{page} at {width}: {found}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
