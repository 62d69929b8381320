//! A browser of one's own. Every wait ends: with what was waited for, or with a test that fails and says what it saw.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use fantoccini::actions::{InputSource, KeyAction, KeyActions};
use fantoccini::elements::Element;
use fantoccini::key::Key;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};

/// A name that leads to this machine in the browser, for what a page does only away from `127.0.0.1`.
pub const OTHER_NAME: &str = "links.example";

const PATIENCE: Duration = Duration::from_secs(30);

/// Chromium and its driver.
pub struct Installed {
    chromium: PathBuf,
    driver: PathBuf,
}

impl Installed {
    /// `None` where one of them is missing and nobody insists.
    pub fn find() -> Option<Self> {
        let found = on_path("chromium").zip(on_path("chromedriver"));
        assert!(found.is_some() || std::env::var_os("CI").is_none(), "chromium and chromedriver are not installed");
        found.map(|(chromium, driver)| Self { chromium, driver })
    }
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Chromedriver, and with it the browser: they share a process group and end together.
struct Driver {
    child: Child,
    url: String,
    // Open to the end: a driver that cannot print stops.
    _output: BufReader<ChildStdout>,
}

impl Driver {
    fn start(program: &Path) -> Self {
        let mut command = Command::new(program);
        command.arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let mut child = command.spawn().expect("chromedriver starts");
        let mut output = BufReader::new(child.stdout.take().expect("standard output is piped"));
        let mut said = String::new();
        let port = loop {
            assert!(output.read_line(&mut said).expect("readable output") > 0, "chromedriver stopped: {said}");
            if let Some((_, port)) = said.rsplit_once("started successfully on port ") {
                break port.trim().trim_end_matches('.').to_owned();
            }
        };
        Self { child, url: format!("http://127.0.0.1:{port}"), _output: output }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let kill = format!("kill -KILL -{}", self.child.id());
        drop(Command::new("sh").args(["-c", &kill]).status());
        drop(self.child.wait());
    }
}

/// A running browser with one open tab.
pub struct Browser {
    pub client: Client,
    driver: Driver,
}

impl Browser {
    /// Starts a browser that keeps its files in `folder` and reaches nothing but this machine.
    pub async fn start(installed: &Installed, folder: &Path) -> Self {
        let driver = Driver::start(&installed.driver);
        let arguments = [
            "--headless".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-background-networking".to_owned(),
            "--disable-component-update".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--disable-quic".to_owned(),
            "--disable-sync".to_owned(),
            "--no-first-run".to_owned(),
            "--no-proxy-server".to_owned(),
            "--window-size=1024,900".to_owned(),
            format!("--host-resolver-rules=MAP {OTHER_NAME} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
            format!("--user-data-dir={}", folder.join("browser").display()),
        ];
        let capabilities = json!({
            "goog:chromeOptions": { "binary": installed.chromium, "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        });
        let Value::Object(capabilities) = capabilities else { unreachable!("it is written as an object") };
        let mut builder = ClientBuilder::new(HttpConnector::new());
        let client = builder.capabilities(capabilities).connect(&driver.url).await.expect("the browser starts");
        Self { client, driver }
    }

    /// Ends the browser in good order.
    pub async fn close(self) {
        self.client.clone().close().await.expect("the browser ends");
    }

    pub async fn open(&self, url: &str) {
        // The same page with another fragment would not be loaded anew.
        self.client.goto("about:blank").await.expect("a blank page");
        self.client.goto(url).await.expect(url);
    }

    /// Waits until a script's expression is true.
    pub async fn until(&self, condition: &str) {
        let script = format!("return Boolean({condition})");
        let started = Instant::now();
        loop {
            // A page on its way out answers with errors.
            if matches!(self.client.execute(&script, Vec::new()).await, Ok(Value::Bool(true))) {
                return;
            }
            if started.elapsed() > PATIENCE {
                let address = self.client.current_url().await.map(|url| url.to_string());
                let seen = self.client.execute("return document.body.innerText", Vec::new()).await;
                panic!("not so after {PATIENCE:?}: {condition}\nat {address:?}\nseeing {seen:?}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits for a state of the landing page.
    pub async fn until_state(&self, state: &str) {
        self.until(&format!("document.body?.dataset.state === '{state}'")).await;
    }

    /// Waits for a page of the example portal.
    pub async fn until_page(&self, page: &str) {
        self.until(&format!("document.readyState === 'complete' && document.body.dataset.page === '{page}'")).await;
    }

    /// From the landing page into the example portal, which asks who the visitor is.
    pub async fn arrive(&self) {
        self.click("#continue").await;
        self.confirm().await;
    }

    /// Says yes to the example portal's question.
    pub async fn confirm(&self) {
        self.until_page("arrival").await;
        self.click("#arrive").await;
        self.until_page("home").await;
    }

    pub async fn find(&self, css: &str) -> Element {
        let wait = self.client.wait().at_most(PATIENCE).every(Duration::from_millis(20));
        wait.for_element(Locator::Css(css)).await.expect(css)
    }

    /// A person's click: the browser marks the event as trusted.
    pub async fn click(&self, css: &str) {
        self.find(css).await.click().await.expect(css);
    }

    /// What a person reads there.
    pub async fn text(&self, css: &str) -> String {
        self.find(css).await.text().await.expect(css)
    }

    /// Empties a field and types into it.
    pub async fn fill(&self, css: &str, text: &str) {
        let field = self.find(css).await;
        field.clear().await.expect(css);
        field.send_keys(text).await.expect(css);
    }

    pub async fn choose(&self, css: &str, label: &str) {
        self.find(css).await.select_by_label(label).await.expect(css);
    }

    /// Presses a key and lets it go, wherever the focus is.
    pub async fn press(&self, key: Key) {
        let value = char::from(key);
        let keys = KeyActions::new("keyboard".to_owned()).then(KeyAction::Down { value }).then(KeyAction::Up { value });
        self.client.perform_actions(keys).await.expect("the key can be pressed");
    }

    /// The value of a script.
    pub async fn script(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.expect(script)
    }

    /// Opens a new tab and goes to it.
    pub async fn new_tab(&self) {
        let tab = self.client.new_window(true).await.expect("a new tab");
        self.client.switch_to_window(tab.handle).await.expect("the tab is there");
    }

    /// Runs a script before those of each page, and returns its id.
    pub async fn before_each_page(&self, script: &str) -> String {
        let answer = self.command("Page.addScriptToEvaluateOnNewDocument", json!({ "source": script })).await;
        answer["identifier"].as_str().expect("an identifier").to_owned()
    }

    /// Does so no longer.
    pub async fn forget(&self, id: &str) {
        self.command("Page.removeScriptToEvaluateOnNewDocument", json!({ "identifier": id })).await;
    }

    /// A command of the browser's own protocol.
    async fn command(&self, command: &str, parameters: Value) -> Value {
        self.driver_post("goog/cdp/execute", json!({ "cmd": command, "params": parameters })).await
    }

    async fn driver_post(&self, path: &str, body: Value) -> Value {
        let session = self.client.session_id().await.expect("a session").expect("its id");
        let url = format!("{}/session/{session}/{path}", self.driver.url);
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let request = http.post(url).header("content-type", "application/json");
        let answer = request.body(body.to_string()).send().await.expect("an answer");
        answer.json::<Value>().await.expect("JSON")["value"].take()
    }

    /// What was logged since the last look: `browser` (the console) or `performance` (the network, among others).
    pub async fn log(&self, kind: &str) -> Vec<Value> {
        self.driver_post("se/log", json!({ "type": kind })).await.as_array().expect("a list").clone()
    }

    /// Every address that was asked for since the last look.
    pub async fn requests(&self) -> Vec<url::Url> {
        let entries = self.log("performance").await;
        let messages = entries.iter().filter_map(|entry| entry["message"].as_str());
        let messages = messages.map(|text| serde_json::from_str::<Value>(text).expect("JSON")["message"].clone());
        let sent = messages.filter(|message| message["method"] == "Network.requestWillBeSent");
        sent.map(|message| message["params"]["request"]["url"].as_str().expect("an address").parse().expect("a URL"))
            .collect()
    }
}
