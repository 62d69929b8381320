//! A remembered device opens a link again without a mail: the browser signs a proof with a key that never leaves it.
//!
//! The consultant chooses so after the mailed code. The thumbprint of the key travels in the authorization code, and the
//! device is remembered when the portal redeems that. A fresh mail, or a revoked session, ends it.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use time::Duration;
use url::Url;
use utoipa::ToSchema;

use super::landing::{self, Continued};
use crate::clock::Timestamp;
use crate::config::{Config, Portal};
use crate::context::Context;
use crate::db::Conn;
use crate::domain::{Actor, EventType, Reentry};
use crate::error::{Code, Error};
use crate::id::LinkId;
use crate::journal::Event;
use crate::records::devices::Device;
use crate::records::links::Link;
use crate::secrets::Digests;
use crate::store::Tx;
use crate::tokens::Proof;
use crate::{records, sessions};

/// How long the page may use a nonce.
const NONCE_LIFE: Duration = Duration::seconds(60);

/// Paths of the requests that carry a proof.
pub(super) const VERIFY: &str = "/l/verify";
const REENTER: &str = "/l/reenter";
const FORGET: &str = "/l/forget";

/// What a proof by the device's key must contain (`POST /l/verify`, `/l/reenter`, `/l/forget`).
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct DeviceChallenge {
    /// Whether a device is remembered: its browser opens the link again. Otherwise one can be remembered.
    pub is_remembered: bool,
    /// Identifier of the link.
    pub magic_link_id: LinkId,
    /// Generation of the link (claim `gen`).
    pub generation: i32,
    /// Number of visits with this generation so far.
    pub visit: i32,
    /// Nonce for one proof; valid for a minute.
    #[schema(max_length = 128)]
    pub nonce: String,
}

/// Link token and proof by the key of the remembered device.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "token": "eyJhbGciOiJFUzI1NiJ9.e30.c2lnbmF0dXJl", "proof": "eyJhbGciOiJFUzI1NiJ9.e30.c2lnbmF0dXJl"
}))]
pub struct DeviceRequest {
    /// Link token: the fragment of the link's URL, after the `#`. It may have expired.
    #[schema(max_length = 4096)]
    pub token: String,
    /// Proof of possession, shaped like that of RFC 9449: a JWT (ES256) with `typ` `magic-link-proof+jwt` and the
    /// public key as `jwk` in its header, and with exactly the claims `htm`, `htu`, `nonce`, `magic_link_id`, `gen` and
    /// `visit`. It is good once.
    #[schema(max_length = 2048)]
    pub proof: String,
}

/// The device that is remembered for a link, and whether one may be.
pub(super) fn challenge(
    conn: &mut Conn,
    config: &Config,
    digests: &Digests,
    link: &Link,
    now: Timestamp,
) -> Result<Option<DeviceChallenge>, Error> {
    if !may_remember(config, link) {
        return Ok(None);
    }
    let device = records::devices::find(conn, link)?;
    if device.is_none() && link.spent_at.is_some() {
        return Ok(None);
    }
    Ok(Some(DeviceChallenge {
        is_remembered: device.is_some(),
        magic_link_id: link.id.clone(),
        generation: link.generation,
        visit: link.visit,
        nonce: nonce(digests, link, device.as_ref(), now.plus(NONCE_LIFE).unix_seconds()),
    }))
}

/// Whether a device may be remembered: it was granted, and the portal's visitors still give a mailed code on our page.
fn may_remember(config: &Config, link: &Link) -> bool {
    let portal = config.portals.get(&link.portal);
    link.reentry == Reentry::Device && portal.is_some_and(Portal::remembers_devices)
}

/// A text that only this service makes, for one proof about one visit.
fn nonce(digests: &Digests, link: &Link, device: Option<&Device>, expires_at_seconds: i64) -> String {
    let proofs = device.map_or(0, |device| device.proofs);
    let numbers = format!("{expires_at_seconds} {} {} {proofs}", link.generation, link.visit);
    let digest = digests.of("device nonce", &[link.id.as_str(), &numbers]);
    format!("{expires_at_seconds}.{}", URL_SAFE_NO_PAD.encode(digest))
}

/// Whether a proof is about this visit, and answers a nonce of ours that has not expired.
fn answers(proof: &Proof, digests: &Digests, link: &Link, device: Option<&Device>, now: Timestamp) -> bool {
    let claims = &proof.claims;
    let expires_at = claims.nonce.split('.').next().and_then(|seconds| seconds.parse::<i64>().ok());
    let Some(expires_at) = expires_at.filter(|seconds| *seconds > now.unix_seconds()) else { return false };
    let ours = nonce(digests, link, device, expires_at);
    (&claims.magic_link_id, claims.generation, claims.visit) == (&link.id, link.generation, link.visit)
        && verify_slices_are_equal(ours.as_bytes(), claims.nonce.as_bytes()).is_ok()
}

/// The thumbprint of the key that shall be remembered; `None` for a proof that is refused.
pub(super) fn new_device(
    config: &Config,
    digests: &Digests,
    link: &Link,
    proof: Option<&Proof>,
    now: Timestamp,
) -> Option<String> {
    let proof = proof.filter(|proof| may_remember(config, link) && answers(proof, digests, link, None, now))?;
    Some(proof.thumbprint.clone())
}

/// The full address of a path of the landing page, as proofs name it: a browser spells the origin in its one way.
pub(super) fn address(cx: &Context, path: &str) -> String {
    origin(&cx.config.public_url) + path
}

fn origin(public_url: &str) -> String {
    Url::parse(public_url).map_or_else(|_| public_url.to_owned(), |url| url.origin().ascii_serialization())
}

/// Returns the portal's callback with a code for the next visit.
pub(crate) async fn reenter(cx: &Context, request: DeviceRequest, now: Timestamp) -> Result<Continued, Error> {
    let (link, kid, device) = with_proof(cx, request, REENTER, now, move |tx, link, device| {
        let data = serde_json::json!({
            "generation": link.generation, "visit": link.visit + 1, "device": device.thumbprint,
        });
        let actor = Actor::consultant(&link.consultant_id);
        tx.record(Event::new(EventType::LinkReentered, actor, now).link(link).with(&data));
        Ok(())
    })
    .await?;
    landing::redirect(cx, link, kid, Some(device.thumbprint), now)
}

/// Forgets the device: the next visit begins with a mail. A visit that has begun goes on.
pub(crate) async fn forget(cx: &Context, request: DeviceRequest, now: Timestamp) -> Result<(), Error> {
    with_proof(cx, request, FORGET, now, move |tx, link, _device| {
        let voided = records::devices::void_generation(tx, &link.id, link.generation)?.ok_or(Code::DeviceUnknown)?;
        sessions::forget_device(tx, &voided, &Actor::consultant(&link.consultant_id), None, "consultant", now)
    })
    .await
    .map(drop)
}

/// Does what the remembered device asks for by a proof. A refusal is recorded.
///
/// The age of the link token is not judged: the proof is fresh. Its signature and generation are.
async fn with_proof(
    cx: &Context,
    request: DeviceRequest,
    path: &str,
    now: Timestamp,
    work: impl Fn(&mut Tx<'_>, &Link, &Device) -> Result<(), Error> + Send + Sync + 'static,
) -> Result<(Link, String, Device), Error> {
    let (claims, kid) = landing::verify(cx, &request.token, now).await?;
    cx.tokens.signing_kid(now)?;
    let proof = Proof::verify(&request.proof, &address(cx, path));
    let digests = cx.tokens.master_key().digests();
    let config = cx.config.clone();
    let (link, device) = cx
        .store
        .write(move |tx| {
            let link = records::links::lock(tx, &claims.jti)?.ok_or(Code::TokenInvalid)?;
            let taken = match (link.why_not(claims.generation, now), records::devices::find(tx, &link)?) {
                (Some(code), _) if code != Code::LinkSpent => Err(code),
                (_, Some(device)) if may_remember(&config, &link) => match &proof {
                    Some(proof) if proof.thumbprint != device.thumbprint => Err(Code::DeviceUnknown),
                    // Of two that come with the same proof, one is taken.
                    Some(proof)
                        if answers(proof, &digests, &link, Some(&device), now)
                            && records::devices::take_proof(tx, &device)? =>
                    {
                        Ok(device)
                    }
                    _ => Err(Code::ProofInvalid),
                },
                _ => Err(Code::DeviceUnknown),
            };
            let device = taken.map_err(|code| {
                let actor = Actor::consultant(&link.consultant_id);
                tx.refuse(code, Event::link_refused(&link, actor, code, now))
            })?;
            work(tx, &link, &device)?;
            Ok((link, device))
        })
        .await?;
    Ok((link, kid, device))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_spelled_as_a_browser_spells_it() {
        for (configured, spelled) in [
            ("https://links.example", "https://links.example"),
            ("https://Links.Example:443", "https://links.example"),
            ("https://links.example:8443", "https://links.example:8443"),
            ("https://m\u{fc}ller.example", "https://xn--mller-kva.example"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ] {
            assert_eq!(origin(configured), spelled);
        }
    }
}
