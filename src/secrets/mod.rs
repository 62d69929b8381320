//! Secrets: types that do not print, and their hashed or sealed forms.

mod api_key;
mod digest;
mod kept;
mod master_key;
mod mode;
mod source;
mod webhook_secret;

pub(crate) use api_key::{ApiKey, same_sha256};
pub(crate) use digest::sha256_hex;
pub use kept::Kept;
pub use master_key::MasterKeyError;
pub(crate) use master_key::{Digests, MasterKey};
pub(crate) use mode::{open_mode, tighten};
pub use source::MasterKeySource;
pub use webhook_secret::WebhookSecret;
