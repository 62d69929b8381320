//! What a running service reads again: secrets from their files, and the level of the log.

use crate::config::{Config, Reread};
use crate::telemetry::LogLevel;

/// Reads it again, and says what became of it. What cannot be used leaves everything as it was.
pub(super) fn read_again(config: &Config, log_level: Option<&LogLevel>) {
    for (key, outcome) in config.read_secrets_again() {
        match outcome {
            Ok(Reread::Changed) => tracing::info!(config.key = key, "SIGHUP: this secret has changed, and is in force"),
            Ok(Reread::Unchanged) => tracing::debug!(config.key = key, "SIGHUP: this secret is the same"),
            Err(problem) => {
                tracing::warn!(config.key = key, error.cause = problem, "SIGHUP: this secret is kept as it was");
            }
        }
    }
    match config.load_again() {
        Err(problems) => tracing::warn!(error.cause = %problems, "SIGHUP: the configuration is kept as it was"),
        Ok(now) => {
            let restart = config.differing(&now).join(", ");
            if let Some(log_level) = log_level {
                log_level.set(&now.log.level);
            }
            tracing::info!(log.level = now.log.level, config.needs_restart = restart, "SIGHUP: read again");
        }
    }
}
