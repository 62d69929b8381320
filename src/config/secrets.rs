//! Secrets by file: `<key>_file` beside each key that holds one, or a credential of systemd that is called like the key.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use secrecy::SecretString;

use super::Config;
use super::reader::Reader;
use crate::files;
use crate::secrets::{Kept, open_mode, sha256_hex};

/// Largest file that is taken for a secret.
const MAX_BYTES: u64 = 64 * 1024;

/// What a look into the file of a secret has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reread {
    /// Another secret, which is in force now.
    Changed,
    /// The same one.
    Unchanged,
}

/// Puts the next text of a file in the place of the last one, if it can be used.
type Replace = dyn Fn(&str) -> Result<(), String> + Send + Sync;

/// A secret that stands in a file.
#[derive(Clone)]
pub(super) struct SecretFile {
    key: String,
    path: PathBuf,
    /// Digest of what was read last.
    seen: Arc<Mutex<String>>,
    replace: Arc<Replace>,
}

impl fmt::Debug for SecretFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.key, self.path.display())
    }
}

impl SecretFile {
    fn read_again(&self) -> Result<Reread, String> {
        let text = read(&self.path)?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = sha256_hex(text.as_bytes());
        if *seen == digest {
            return Ok(Reread::Unchanged);
        }
        (self.replace)(&text)?;
        *seen = digest;
        Ok(Reread::Changed)
    }
}

impl Config {
    /// Reads the files of secrets again; each with its key. One that cannot be used is left as it was.
    pub(crate) fn read_secrets_again(&self) -> Vec<(String, Result<Reread, String>)> {
        self.secret_files.iter().map(|file| (file.key.clone(), file.read_again())).collect()
    }
}

/// The line in a file, without its end.
fn read(path: &Path) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    let text = files::read_text(path, MAX_BYTES).map_err(cannot)?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() { Err(format!("{} is empty", path.display())) } else { Ok(text.to_owned()) }
}

/// A secret that is sent as it is: one line without spaces.
pub(super) fn word(text: &str) -> Result<SecretString, String> {
    if text.chars().any(|character| character.is_control() || character == ' ') {
        return Err("must not hold spaces or line breaks".to_owned());
    }
    Ok(text.into())
}

impl Reader<'_> {
    /// The text of a secret, and the file that it stands in.
    pub(super) fn secret_text(&mut self, key: &str) -> Option<(String, Option<PathBuf>)> {
        let (given, file) = (self.optional(key), self.secret_file(key));
        match (given, file) {
            (Some(_), Some(_)) => {
                self.problem(key, format_args!("give either {key} or {key}_file"));
                None
            }
            (Some(text), None) => {
                self.show(key, "(set)");
                Some((text, None))
            }
            (None, None) => {
                self.show(key, "(not set)");
                None
            }
            (None, Some(path)) => {
                self.show(key, format_args!("(in {})", path.display()));
                if open_mode(&path).is_some() {
                    self.warning(&format!("{key}_file"), "others can read a file of secrets: chmod 600");
                }
                match read(&path) {
                    Ok(text) => Some((text, Some(path))),
                    Err(problem) => {
                        self.problem(&format!("{key}_file"), problem);
                        None
                    }
                }
            }
        }
    }

    /// The file of a secret: named, or a credential that a supervisor hands over.
    pub(super) fn secret_file(&mut self, key: &str) -> Option<PathBuf> {
        let named = self.optional(&format!("{key}_file")).map(PathBuf::from);
        let credential = self.credentials.as_ref().map(|folder| folder.join(key)).filter(|path| path.is_file());
        // What is set says more than what is there.
        named.or_else(|| credential.filter(|_| self.optional(key).is_none()))
    }

    /// A secret that is read from its file again when the service is asked to.
    pub(super) fn secret<T: Clone + Send + Sync + 'static>(
        &mut self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, String> + Send + Sync + 'static,
    ) -> Option<Kept<T>> {
        let (text, file) = self.secret_text(key)?;
        match parse(&text) {
            Err(problem) => {
                self.problem(key, problem);
                None
            }
            Ok(first) => {
                let kept = Kept::new(first);
                let replaced = kept.clone();
                self.follow(key, &text, file, move |text| parse(text).map(|next| replaced.set(next)));
                Some(kept)
            }
        }
    }

    /// Remembers what to do with the next text of a file.
    pub(super) fn follow(
        &mut self,
        key: &str,
        text: &str,
        file: Option<PathBuf>,
        replace: impl Fn(&str) -> Result<(), String> + Send + Sync + 'static,
    ) {
        let seen = Arc::new(Mutex::new(sha256_hex(text.as_bytes())));
        let files = file.map(|path| SecretFile { key: key.to_owned(), path, seen, replace: Arc::new(replace) });
        self.secret_files.extend(files);
    }

    /// The same for one that must be there.
    pub(super) fn needed(&mut self, key: &str) -> Kept<SecretString> {
        let before = self.problem_count();
        let secret = self.secret(key, word);
        if secret.is_none() && self.problem_count() == before {
            self.problem(key, format_args!("is required, here or in {key}_file"));
        }
        secret.unwrap_or_else(|| Kept::new(SecretString::default()))
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use std::fs;

    use super::*;
    use crate::config::Provider;

    fn postmark(config: &Config) -> String {
        let Provider::Postmark(postmark) = &config.mail.provider else { panic!("postmark was asked for") };
        postmark.server_token.get().expose_secret().to_owned()
    }

    #[test]
    fn a_secret_in_a_file_is_read_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        fs::write(&file, "first-token\n").unwrap();
        let text = format!(
            "[mail]\nfrom = 'links@hr.in'\nprovider = 'postmark'\npostmark_server_token_file = '{}'",
            file.display()
        );
        let config = Config::from_toml(&text).unwrap();
        // Whoever holds the configuration sees what another holder has read again.
        let other = config.clone();
        assert_eq!(postmark(&config), "first-token");
        assert_eq!(config.read_secrets_again(), [("mail.postmark_server_token".to_owned(), Ok(Reread::Unchanged))]);
        fs::write(&file, "second-token").unwrap();
        assert_eq!(config.read_secrets_again()[0].1, Ok(Reread::Changed));
        assert_eq!(postmark(&other), "second-token");
        for unusable in ["", "two words", "\n\n"] {
            fs::write(&file, unusable).unwrap();
            assert!(config.read_secrets_again()[0].1.is_err(), "{unusable:?}");
        }
        fs::remove_file(&file).unwrap();
        assert!(config.read_secrets_again()[0].1.as_ref().unwrap_err().contains("cannot be read"));
        assert_eq!(postmark(&other), "second-token");
        assert!(Config::from_toml(&text).unwrap_err().to_string().contains("mail.postmark_server_token_file: "));
        let twice = format!("{text}\npostmark_server_token = 'x'");
        assert!(Config::from_toml(&twice).unwrap_err().to_string().contains("give either"));
    }

    #[test]
    fn of_the_database_only_the_credentials_change_while_it_runs() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("url");
        fs::write(&file, "postgres://app:first@localhost/links?password=old").unwrap();
        let text = format!("database_url_file = '{}'\nmaster_key = 'x'\nmail.provider = 'mailpit'", file.display());
        let config = Config::from_toml(&text).unwrap();
        fs::write(&file, "postgres://other:second@localhost/links").unwrap();
        assert_eq!(config.read_secrets_again(), [("database_url".to_owned(), Ok(Reread::Changed))]);
        for elsewhere in
            ["postgres://app:x@localhost/others", "postgres://app:x@[::1]/links", "sqlite://data/x.db", "?"]
        {
            fs::write(&file, elsewhere).unwrap();
            assert!(config.read_secrets_again()[0].1.is_err(), "{elsewhere}");
        }
        assert_eq!(config.shown["database_url"], format!("(in {})", file.display()));
    }
}
