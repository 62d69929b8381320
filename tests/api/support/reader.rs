//! Somebody who follows a page: its commands, run as they are printed.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{World, command, folder};

/// Somebody who copies commands from a page into a shell.
pub struct Reader<'a> {
    world: &'a World,
    /// Where the service is.
    base: String,
    /// What they exported, and what they take from answers.
    knows: BTreeMap<&'static str, String>,
    folder: std::path::PathBuf,
}

/// The shell commands of a page from a heading on, block by block.
pub fn blocks(page: &str, heading: &str) -> Vec<String> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
    let section = text.split_once(heading).expect("the heading").1;
    let blocks = section.split("```sh\n").skip(1);
    blocks.map(|block| block.split_once("```").expect("an end").0.to_owned()).collect()
}

impl<'a> Reader<'a> {
    pub fn new(world: &'a World, name: &str) -> Self {
        let folder = folder(&format!("reader-{name}-{:?}", world.database));
        Self { world, base: world.base.clone(), knows: BTreeMap::new(), folder }
    }

    /// At a copy of the service that the test has started.
    pub fn at(self, base: &str) -> Self {
        Self { base: base.to_owned(), ..self }
    }

    /// Runs a block, but for the lines that say what to keep of an answer; what it prints.
    pub fn run(&self, block: &str) -> String {
        // The service of a test has another port, and secrets are shown as `…`.
        let block = block.replace("http://127.0.0.1:8080", &self.base);
        let lines: Vec<&str> = block.lines().filter(|line| !line.contains('…')).collect();
        let block = lines.join("\n");
        let service = command(self.world);
        let binaries = Path::new(env!("CARGO_BIN_EXE_magic-link")).parent().unwrap().to_owned();
        let path = std::env::var("PATH").unwrap();
        let mut shell = Command::new("bash");
        shell.args(["-euc", &block]).current_dir(&self.folder).envs(&self.knows);
        shell.envs(service.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let output = shell.env("PATH", format!("{}:{path}", binaries.display())).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{block}\n{said}\n{}", String::from_utf8_lossy(&output.stderr));
        said
    }

    /// The answer of a block that calls the API.
    pub fn call(&self, block: &str) -> Value {
        let said = self.run(block);
        let answer: Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{block}\n{said}"));
        assert!(answer.get("code").is_none(), "{block}\n{said}");
        answer
    }

    pub fn learn(&mut self, name: &'static str, value: &str) {
        self.knows.insert(name, value.to_owned());
    }
}
