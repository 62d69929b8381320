//! Signed calls (Standard Webhooks 1.0) to the operator's own webhook.

use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use url::Url;

use crate::clock::Timestamp;
use crate::secrets::Kept;

pub(crate) use crate::secrets::WebhookSecret;

/// Time-out of a call.
pub(super) const TIME_OUT: Duration = Duration::from_secs(15);

/// The operator's own webhook. Its address may be private.
pub(crate) struct Webhook {
    http: Client,
    url: Url,
    secret: Kept<WebhookSecret>,
}

impl Webhook {
    /// Sets up the HTTP client. Redirects are not followed: they could lead anywhere.
    pub(crate) fn new(url: Url, secret: Kept<WebhookSecret>) -> Result<Self, reqwest::Error> {
        let http = Client::builder().timeout(TIME_OUT).redirect(Policy::none()).no_proxy().build()?;
        Ok(Self { http, url, secret })
    }

    /// Delivers a message; a repeat has the same `id`.
    ///
    /// # Errors
    /// An error text for operators.
    pub(crate) async fn send(&self, id: &str, body: String, now: Timestamp) -> Result<(), String> {
        let seconds = now.unix_seconds();
        let request = self
            .http
            .post(self.url.clone())
            .header("content-type", "application/cloudevents+json")
            .header("webhook-id", id)
            .header("webhook-timestamp", seconds)
            .header("webhook-signature", self.secret.get().sign(id, seconds, &body))
            .body(body);
        // Without the URL, which may hold a password.
        let response = request.send().await.map_err(|error| error.without_url().to_string())?;
        match response.status() {
            status if status.is_success() => Ok(()),
            StatusCode::GONE => Err("410: the receiver wants no more".to_owned()),
            status => Err(format!("{}", status.as_u16())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_specification() {
        let secret: WebhookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap();
        let body = r#"{"test": 2432232314}"#;
        let signature = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_fresh_secret_is_one_that_is_taken() {
        use secrecy::ExposeSecret;
        let (one, other) = (WebhookSecret::generate(), WebhookSecret::generate());
        assert!(one.expose_secret().parse::<WebhookSecret>().is_ok());
        assert_ne!(one.expose_secret(), other.expose_secret());
    }

    #[test]
    fn only_a_long_random_secret_is_taken() {
        for wrong in
            ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_c2hvcnQ=", "whsec_not base64 at all, is it"]
        {
            assert!(wrong.parse::<WebhookSecret>().is_err(), "{wrong:?}");
        }
    }
}
