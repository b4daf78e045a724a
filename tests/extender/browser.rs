//! A real, headless Chromium, steered through its driver. It reaches loopback and nothing else.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fantoccini::wd::Capabilities;
use fantoccini::{Client, ClientBuilder, Locator};
use serde_json::json;
use tempfile::TempDir;

/// Anything that takes longer on a busy machine has gone wrong.
const DEADLINE: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

pub(crate) struct Browser {
    client: Client,
    // In the order in which they end: the browser's files go last.
    _driver: Driver,
    _profile: TempDir,
}

impl Browser {
    /// Opens the address; `None`, and a line about it, where this machine has no Chromium.
    pub(crate) async fn open(address: &str, is_dark: bool) -> Option<Self> {
        let profile = tempfile::tempdir().unwrap();
        let mut driver = match Driver::start(profile.path()) {
            Ok(driver) => driver,
            Err(error) => {
                eprintln!("skipped: no chromedriver ({error}); tools/browser.sh installs it");
                return None;
            }
        };
        let port = driver.port().await;
        let capabilities = capabilities(profile.path(), is_dark);
        let client = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .expect("a browser");
        client.goto(address).await.unwrap();
        Some(Self { client, _driver: driver, _profile: profile })
    }

    /// Waits until an element that CSS finds holds this text.
    pub(crate) async fn shows(&self, css: &str, text: &str) {
        let end = tokio::time::Instant::now() + DEADLINE;
        let mut seen = String::new();
        while tokio::time::Instant::now() < end {
            seen = self.text(css).await;
            if seen.contains(text) {
                return;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        panic!("{css} does not show {text:?} but {seen:?}");
    }

    /// The text of all that CSS finds, as a reader of the page has it.
    pub(crate) async fn text(&self, css: &str) -> String {
        let script = "return [...document.querySelectorAll(arguments[0])].map((one) => one.innerText).join('\\n')";
        let text = self.client.execute(script, vec![json!(css)]).await.unwrap();
        text.as_str().unwrap().to_owned()
    }

    /// What a script returns.
    pub(crate) async fn ask(&self, script: &str) -> serde_json::Value {
        self.client.execute(script, Vec::new()).await.unwrap()
    }

    pub(crate) async fn click(&self, css: &str) {
        self.client.find(Locator::Css(css)).await.unwrap().click().await.unwrap();
    }

    /// Types where the page's focus is.
    pub(crate) async fn press(&self, keys: &str) {
        self.client.active_element().await.unwrap().send_keys(keys).await.unwrap();
    }

    /// What is seen now, as a PNG.
    pub(crate) async fn screenshot(&self, path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, self.client.screenshot().await.unwrap()).unwrap();
    }

    pub(crate) async fn close(self) {
        self.client.close().await.unwrap();
    }
}

/// Ends with the value, and the browser with it.
struct Driver(Child);

impl Drop for Driver {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Driver {
    fn start(profile: &Path) -> std::io::Result<Self> {
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").env("TMPDIR", profile).env("HOME", profile);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.spawn().map(Self)
    }

    /// The port that it got, as it says itself.
    async fn port(&mut self) -> u16 {
        let output = BufReader::new(self.0.stdout.take().unwrap());
        let port = tokio::task::spawn_blocking(move || {
            let lines = output.lines().map_while(Result::ok);
            let said = |line: String| {
                let (_, port) = line.split_once("started successfully on port ")?;
                port.trim_end_matches('.').parse().ok()
            };
            lines.filter_map(said).next()
        });
        let port = tokio::time::timeout(DEADLINE, port).await.expect("chromedriver starts");
        port.unwrap().expect("chromedriver names its port")
    }
}

fn capabilities(profile: &Path, is_dark: bool) -> Capabilities {
    let profile = format!("--user-data-dir={}", profile.join("profile").display());
    let scheme = format!("--blink-settings=preferredColorScheme={}", u8::from(!is_dark));
    let arguments = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--no-first-run",
        "--window-size=1280,1100",
        // Names lead nowhere: the browser has no business outside loopback.
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        &profile,
        &scheme,
    ];
    let options = json!({"args": arguments, "binary": "/usr/bin/chromium"});
    Capabilities::from_iter([("goog:chromeOptions".to_owned(), options)])
}
