//! `magic-link config`: what a configuration means.

use clap::Subcommand;
use serde_json::json;

use super::Failure;
use super::output::{Output, line};
use crate::config::Config;
use crate::secrets::{MasterKey, MasterKeyError, MasterKeySource};

#[derive(Subcommand)]
pub(super) enum ConfigCommand {
    /// Read the configuration as `serve` does, and print what is in force, without secrets, and its digest; opens no database
    Check,
}

pub(super) fn check(config: &Config, output: &Output) -> Result<(), Failure> {
    match (MasterKey::load(&config.master_key.clone().existing()), &config.master_key) {
        // It is made at the first start.
        (Err(MasterKeyError::File { error, .. }), MasterKeySource::FileOrNew(_))
            if error.kind() == std::io::ErrorKind::NotFound => {}
        (outcome, _) => drop(outcome?),
    }
    if output.json {
        return Ok(line(
            &json!({ "settings": config.shown, "digest": config.digest(), "warnings": config.warnings }).to_string(),
        )?);
    }
    config.shown.iter().try_for_each(|(key, value)| line(&format!("{key} = {value}")))?;
    line(&format!("digest: {}", config.digest()))?;
    config.warnings.iter().try_for_each(|warning| line(&format!("warning: {warning}")))?;
    Ok(())
}
