//! The master key: seals secrets in the store, signs cursors, and makes step-up codes and keyed digests.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, hmac};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use rand::Rng;
use secrecy::{ExposeSecret, SecretSlice};

use crate::files;
use crate::secrets::MasterKeySource;
use crate::secrets::mode::{tighten, warn_if_open};

/// Largest file that is taken for a key.
const MAX_BYTES: u64 = 64 * 1024;

const KEY_BYTES: usize = 32;

/// Version of the sealing, so that a later one can be added.
const SEAL: &str = "v1.";

/// Reason why the master key cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// The file cannot be read or created.
    #[error("master_key_file {path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
    /// The text is not a key.
    #[error("the master key must be base64 of 32 random bytes")]
    Malformed,
}

/// A loaded master key. It has no `Debug` on purpose.
pub(crate) struct MasterKey {
    /// `None` for commands that open no keys.
    sealing: Option<LessSafeKey>,
    cursors: hmac::Key,
    codes: hmac::Key,
    /// From which the key of digests is made: that of the first master key, whatever became of it.
    digest_seed: SecretSlice<u8>,
    id: String,
}

/// Keyed digests: without the master key they cannot be recomputed, not even for a value that is easily guessed.
#[derive(Clone)]
pub(crate) struct Digests(hmac::Key);

impl Digests {
    /// HMAC-SHA256 of some texts, for one purpose.
    pub(crate) fn of(&self, purpose: &str, texts: &[&str]) -> Vec<u8> {
        let mut context = hmac::Context::with_key(&self.0);
        for text in [purpose].iter().chain(texts) {
            // With its length before it, a text cannot be mistaken for a part of the next one.
            context.update(&text.len().to_be_bytes());
            context.update(text.as_bytes());
        }
        context.sign().as_ref().to_vec()
    }
}

impl MasterKey {
    /// Reads the key, or creates it where the configuration allows that.
    pub(crate) fn load(source: &MasterKeySource) -> Result<Self, MasterKeyError> {
        let failed = |path: &Path, error| MasterKeyError::File { path: path.to_owned(), error };
        match source {
            MasterKeySource::Given(text) => Self::parse(text.expose_secret()),
            MasterKeySource::File(path) => {
                warn_if_open(path);
                Self::parse(&files::read_text(path, MAX_BYTES).map_err(|error| failed(path, error))?)
            }
            MasterKeySource::FileOrNew(path) => match files::read_text(path, MAX_BYTES) {
                Ok(text) => {
                    tighten(path);
                    Self::parse(&text)
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    create(path).map_err(|error| failed(path, error))?;
                    Self::parse(&files::read_text(path, MAX_BYTES).map_err(|error| failed(path, error))?)
                }
                Err(error) => Err(failed(path, error)),
            },
        }
    }

    fn parse(text: &str) -> Result<Self, MasterKeyError> {
        let text = text.trim().trim_end_matches('=');
        let bytes = STANDARD_NO_PAD.decode(text).or_else(|_not_standard| URL_SAFE_NO_PAD.decode(text));
        match bytes {
            Ok(bytes) if bytes.len() == KEY_BYTES => Self::derive(&bytes).ok_or(MasterKeyError::Malformed),
            _ => Err(MasterKeyError::Malformed),
        }
    }

    /// Derives one key for each use, so that none can be used for another.
    fn derive(master: &[u8]) -> Option<Self> {
        let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, b"magic-link").extract(master);
        let sealing: UnboundKey = extracted.expand(&[b"signing keys"], &AES_256_GCM).ok()?.into();
        let cursors: hmac::Key = extracted.expand(&[b"cursors"], hmac::HMAC_SHA256).ok()?.into();
        let codes: hmac::Key = extracted.expand(&[b"step-up codes"], hmac::HMAC_SHA256).ok()?.into();
        let mut digest_seed = vec![0; KEY_BYTES];
        extracted.expand(&[b"digests"], hmac::HMAC_SHA256).ok()?.fill(&mut digest_seed).ok()?;
        let name: hmac::Key = extracted.expand(&[b"name"], hmac::HMAC_SHA256).ok()?.into();
        let name = hmac::sign(&name, b"master key");
        let id = format!("{:016x}", u64::from_be_bytes(*name.as_ref().first_chunk()?));
        let sealing = Some(LessSafeKey::new(sealing));
        Some(Self { sealing, cursors, codes, digest_seed: digest_seed.into(), id })
    }

    /// The name of the key: it tells keys apart, and nothing about them.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// From which the key of digests is made, to be kept when the master key is changed.
    pub(crate) fn digest_seed(&self) -> &[u8] {
        self.digest_seed.expose_secret()
    }

    /// The same master key with the digests of an earlier one.
    pub(crate) fn with_digests_of(self, seed: Vec<u8>) -> Self {
        Self { digest_seed: seed.into(), ..self }
    }

    /// Opens what this key sealed, and seals it under another one; `None` if this key did not seal it.
    pub(crate) fn seal_again(&self, new: &Self, name: &str, sealed: &str) -> Option<String> {
        new.seal(name, &self.open(name, sealed)?)
    }

    /// Stands in where there is no master key, as at the command line in an emergency: it opens and seals nothing.
    /// Cursors that it signs are no secret: they are for an operator, who owns the database.
    pub(crate) fn absent() -> Option<Self> {
        Some(Self { sealing: None, ..Self::derive(&[0; KEY_BYTES])? })
    }

    /// Whether it stands in for a master key.
    pub(crate) const fn is_absent(&self) -> bool {
        self.sealing.is_none()
    }

    /// Seals a secret; `name` must be given again to open it.
    pub(crate) fn seal(&self, name: &str, secret: &[u8]) -> Option<String> {
        let mut nonce = [0; NONCE_LEN];
        rand::rng().fill_bytes(&mut nonce);
        let mut sealed = secret.to_vec();
        let aad = Aad::from(name.as_bytes());
        self.sealing.as_ref()?.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed).ok()?;
        Some(format!("{SEAL}{}", URL_SAFE_NO_PAD.encode([nonce.as_slice(), &sealed].concat())))
    }

    /// Opens what [`MasterKey::seal`] sealed under the same name; `None` with another master key.
    pub(crate) fn open(&self, name: &str, sealed: &str) -> Option<Vec<u8>> {
        let bytes = URL_SAFE_NO_PAD.decode(sealed.strip_prefix(SEAL)?).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_LEN>()?;
        let mut sealed = sealed.to_vec();
        let aad = Aad::from(name.as_bytes());
        let secret =
            self.sealing.as_ref()?.open_in_place(Nonce::assume_unique_for_key(*nonce), aad, &mut sealed).ok()?;
        Some(secret.to_vec())
    }

    /// The key of keyed digests.
    pub(crate) fn digests(&self) -> Digests {
        Digests(hmac::Key::new(hmac::HMAC_SHA256, self.digest_seed()))
    }

    /// The six-digit step-up code of a request: computed for the mail and again for the check, so it is not stored.
    pub(crate) fn step_up_code(&self, id: &str) -> String {
        let tag = hmac::sign(&self.codes, id.as_bytes());
        let number = tag.as_ref().iter().take(8).fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
        format!("{:06}", number % 1_000_000)
    }

    /// A signature over a cursor.
    pub(crate) fn sign_cursor(&self, text: &[u8]) -> hmac::Tag {
        hmac::sign(&self.cursors, text)
    }

    /// Whether a cursor carries our signature, compared in constant time.
    pub(crate) fn verify_cursor(&self, text: &[u8], signature: &[u8]) -> bool {
        hmac::verify(&self.cursors, text, signature).is_ok()
    }
}

/// Creates a key file that only its owner can read, unless another process was faster.
fn create(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut bytes = [0; KEY_BYTES];
    rand::rng().fill_bytes(&mut bytes);
    // Written to a temporary file and then linked, so that no process reads a partial key.
    // Its name is nobody else's: two containers over one volume may have the same process id.
    let mut name = [0; 8];
    rand::rng().fill_bytes(&mut name);
    let aside = path.with_extension(format!("{:016x}.new", u64::from_be_bytes(name)));
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&aside)?;
    writeln!(file, "{}", STANDARD.encode(bytes))?;
    file.sync_all()?;
    let linked = match fs::hard_link(&aside, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        outcome => outcome,
    };
    fs::remove_file(&aside)?;
    linked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_master_key_and_name_open_a_seal() {
        let key = MasterKey::parse(&STANDARD.encode([7; 32])).ok().unwrap();
        let other = MasterKey::parse(&STANDARD.encode([8; 32])).ok().unwrap();
        let sealed = key.seal("kid-1", b"private").unwrap();
        assert_eq!(key.open("kid-1", &sealed).as_deref(), Some(b"private".as_slice()));
        assert_eq!(key.open("kid-2", &sealed), None);
        assert_eq!(other.open("kid-1", &sealed), None);
        assert_eq!(key.open("kid-1", "v1."), None);
    }

    #[test]
    fn a_secret_moves_to_another_master_key_and_digests_stay() {
        let old = MasterKey::parse(&STANDARD.encode([7; 32])).ok().unwrap();
        let new = MasterKey::parse(&STANDARD.encode([8; 32])).ok().unwrap();
        let sealed = old.seal("kid-1", b"private").unwrap();
        let again = old.seal_again(&new, "kid-1", &sealed).unwrap();
        assert_eq!(new.open("kid-1", &again).as_deref(), Some(b"private".as_slice()));
        assert!(old.open("kid-1", &again).is_none() && new.seal_again(&old, "kid-1", &sealed).is_none());
        assert_ne!(old.id(), new.id());
        let before = old.digests().of("act", &["x"]);
        assert_ne!(new.digests().of("act", &["x"]), before);
        assert_eq!(new.with_digests_of(old.digest_seed().to_vec()).digests().of("act", &["x"]), before);
    }

    #[test]
    fn a_key_is_made_once_and_only_its_owner_can_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/master.key");
        let source = MasterKeySource::FileOrNew(path.clone());
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert!(MasterKey::load(&source).is_ok());
        assert_eq!(mode(), 0o600, "from the beginning");
        let first = fs::read_to_string(&path).unwrap();
        assert!(MasterKey::load(&source).is_ok());
        assert_eq!(fs::read_to_string(&path).unwrap(), first);
        // One that a copy made readable is not left so; one that an operator provides is the operator's.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(MasterKey::load(&MasterKeySource::File(path.clone())).is_ok());
        assert_eq!(mode(), 0o644);
        assert!(MasterKey::load(&source).is_ok());
        assert_eq!(mode(), 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn anything_but_32_bytes_is_no_key() {
        for wrong in ["", "short", &STANDARD.encode([1; 31]), &STANDARD.encode([1; 33])] {
            assert!(MasterKey::parse(wrong).is_err(), "{wrong}");
        }
    }
}
