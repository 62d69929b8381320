//! A step-up is a one-time code challenge: a code is mailed to the registered address after the click on "Continue".
//!
//! It stops mail scanners that click buttons, and people to whom the mail was
//! forwarded. The code is bound to the link and its generation, and valid for ten
//! minutes and five attempts, whichever page it is entered on: a page in a mail
//! program's own browser is easily lost. It is stored nowhere: it is derived from the master
//! key and the challenge's identifier, when it is mailed and when it is verified.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::Rng;
use serde::{Deserialize, Serialize};
use time::Duration;
use utoipa::ToSchema;

use super::device::{self, VERIFY};
use super::landing::{self, Continued};
use super::store::{self, OtpChallenge};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::context::Context;
use crate::db::Conn;
use crate::domain::{Actor, EventType, STEP_UP_CODE_LIFE, StepUpCodeText};
use crate::error::{Code, Error};
use crate::id::StepUpId;
use crate::journal::Event;
use crate::mail::{self, MailFate};
use crate::records;
use crate::records::links::Link;
use crate::secrets::sha256_hex;
use crate::store::{Tx, Worker};
use crate::tokens::Proof;

/// Number of attempts for a code.
const TRIES: i32 = 5;

/// Minimum interval between codes for a link.
const COOL_DOWN: Duration = Duration::seconds(30);
/// Largest number of codes for a link within an hour, without those whose mail is lost.
const CODES_AN_HOUR: usize = 5;
/// Largest number of codes for a link within an hour, whatever becomes of their mails.
const MAILS_AN_HOUR: usize = 20;

/// One-time code challenge: the code was mailed, and the page that requested it must send it to `/l/verify`.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct CodeMailed {
    /// Identifier of the one-time code challenge.
    pub id: StepUpId,
    /// Secret of the page that requested the code (base64url, 256 bits).
    #[schema(max_length = 64)]
    pub page_secret: String,
    /// When the code expires (RFC 3339, UTC).
    pub expires_at: Timestamp,
}

/// One-time code that was mailed and can still be entered.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct OpenCode {
    /// Identifier of the one-time code challenge.
    pub id: StepUpId,
    /// When the code expires (RFC 3339, UTC).
    pub expires_at: Timestamp,
    /// When the mail with the code went out (RFC 3339, UTC); absent while it waits to be sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mailed_at: Option<Timestamp>,
}

/// The code that can still be entered for a link, and whether there would be one if its mail had not been lost.
pub(super) fn open_code(conn: &mut Conn, link: &Link, now: Timestamp) -> Result<(Option<OpenCode>, bool), Error> {
    let Some(OtpChallenge { id, expires_at, .. }) = store::open_challenge(conn, link, TRIES, now)? else {
        return Ok((None, false));
    };
    let fates = mail::fates_of_codes(conn, std::slice::from_ref(&id))?;
    Ok(match fates.get(id.as_str()) {
        Some((MailFate::Lost, _)) => (None, true),
        fate => {
            let mailed_at = fate.and_then(|(_, mailed_at)| *mailed_at);
            (Some(OpenCode { id, expires_at, mailed_at }), false)
        }
    })
}

/// When another code may be sent, if that is not yet.
///
/// A code whose mail is lost holds back nothing: nobody got it. But one that was tried counts, so that no lost mail gives
/// anybody more attempts.
fn next_code_at(conn: &mut Conn, link: &Link, now: Timestamp) -> Result<Option<Timestamp>, Error> {
    let an_hour = Duration::hours(1);
    let limit = i64::try_from(MAILS_AN_HOUR).map_err(Error::internal)?;
    let asked = store::step_ups(conn, &link.id, now.last(an_hour), limit)?;
    let untried: Vec<StepUpId> = asked.iter().filter(|one| one.tries == 0).map(|one| one.id.clone()).collect();
    let fates = mail::fates_of_codes(conn, &untried)?;
    let is_lost = |one: &&OtpChallenge| {
        one.tries == 0 && fates.get(one.id.as_str()).is_some_and(|(fate, _)| *fate == MailFate::Lost)
    };
    let mut counted = asked.iter().filter(|one| !is_lost(one)).map(|one| one.created_at);
    let cooled = counted.next().map(|newest| newest.plus(COOL_DOWN));
    let room = counted.nth(CODES_AN_HOUR - 2).map(|oldest| oldest.plus(an_hour));
    let bound = asked.get(MAILS_AN_HOUR - 1).map(|oldest| oldest.created_at.plus(an_hour));
    Ok(cooled.max(room).max(bound).filter(|until| *until > now))
}

/// One-time code to verify.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "token": "eyJhbGciOiJFUzI1NiJ9.e30.c2lnbmF0dXJl", "id": "stp_01kaq3v9e8fwmvd2x7n0c5hb8z",
    "page_secret": "3q2-7wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "code": "042137"
}))]
pub struct VerifyCode {
    /// Link token: the fragment of the link's URL, after the `#`.
    #[schema(max_length = 4096)]
    pub token: String,
    /// Identifier of the one-time code challenge.
    pub id: StepUpId,
    /// Secret of the page that requested the code, as returned with the challenge; another page leaves it out.
    #[schema(max_length = 64)]
    pub page_secret: Option<String>,
    /// One-time code from the mail: six digits.
    #[schema(value_type = StepUpCodeText, example = "042137")]
    pub code: String,
    /// Proof by the key of a device that shall be remembered for the link, as `POST /l/reenter` takes it, with `htu` of this
    /// request; absent where none shall be.
    #[schema(max_length = 2048)]
    pub proof: Option<String>,
}

/// Creates a one-time code challenge for a usable link and queues its mail. The caller has locked the link: one code is
/// counted after the other, and the newest alone is valid.
pub(super) fn send_code(tx: &mut Tx<'_>, config: &Config, link: &Link, now: Timestamp) -> Result<CodeMailed, Error> {
    if let Some(until) = next_code_at(tx, link, now)? {
        let wait = until.since(now).whole_seconds() + 1;
        return Err(Error::new(Code::ResendCoolDown).retry_after(wait.unsigned_abs()));
    }
    let consultant = records::consultants::find(tx, &link.consultant_id)?.ok_or_else(Error::not_found)?;
    mail::require_open_address(tx, config, &consultant.email)?;
    let mut secret = [0; 32];
    rand::rng().fill_bytes(&mut secret);
    let page_secret = URL_SAFE_NO_PAD.encode(secret);
    let challenge = OtpChallenge {
        id: StepUpId::new(now),
        magic_link_id: link.id.clone(),
        generation: link.generation,
        page_sha256: sha256_hex(page_secret.as_bytes()),
        tries: 0,
        created_at: now,
        expires_at: now.plus(STEP_UP_CODE_LIFE).min(link.expires_at),
        passed_at: None,
    };
    store::void_step_ups(tx, &link.id, now)?;
    store::insert_step_up(tx, &challenge)?;
    mail::enqueue_code(tx, link, &challenge.id, now)?;
    tx.record(
        Event::new(EventType::LinkCodeSent, Actor::consultant(&link.consultant_id), now)
            .link(link)
            .with(&serde_json::json!({ "generation": link.generation, "step_up_id": challenge.id })),
    );
    tx.wake(Worker::Mail);
    Ok(CodeMailed { id: challenge.id, page_secret, expires_at: challenge.expires_at })
}

/// Verifies the code and returns the portal's callback. The link stays unspent until the portal redeems.
pub(crate) async fn verify(cx: &Context, request: VerifyCode, now: Timestamp) -> Result<Continued, Error> {
    let (claims, kid) = landing::verify(cx, &request.token, now).await?;
    cx.tokens.signing_kid(now)?;
    let right = cx.tokens.master_key().step_up_code(request.id.as_str());
    let proof = request.proof.as_ref().map(|proof| Proof::verify(proof, &device::address(cx, VERIFY)));
    let digests = cx.tokens.master_key().digests();
    let config = cx.config.clone();
    let checked = cx
        .store
        .write(move |tx| {
            let link = records::links::find(tx, &claims.jti)?.ok_or(Code::TokenInvalid)?;
            config.portal(&link.portal)?;
            let actor = Actor::consultant(&link.consultant_id);
            // Not the age of the token: the code was mailed while it counted, and has an age of its own.
            if let Some(code) = link.why_not(claims.generation, now) {
                return Err(tx.refuse(code, Event::link_refused(&link, actor, code, now)));
            }
            // Before the attempt: a page whose proof is refused can send the same code again without it.
            let device = match &proof {
                Some(proof) => {
                    let device = device::new_device(&config, &digests, &link, proof.as_ref(), now);
                    let refused = Event::link_refused(&link, actor.clone(), Code::ProofInvalid, now);
                    Some(device.ok_or_else(|| tx.refuse(Code::ProofInvalid, refused))?)
                }
                None => None,
            };
            let refused = |code: Code, tries: Option<i32>| {
                Event::new(EventType::LinkCodeRefused, actor.clone(), now).link(&link).with(&serde_json::json!({
                    "code": code.slug(), "step_up_id": request.id, "tries": tries,
                }))
            };
            // The attempt is counted before the comparison: of any number of concurrent requests, five are compared.
            let page = request.page_secret.as_ref().map(|secret| sha256_hex(secret.as_bytes()));
            let Some(challenge) = store::try_code(tx, &request.id, &link, page.as_deref(), TRIES, now)? else {
                return Err(tx.refuse(Code::StepUpVoid, refused(Code::StepUpVoid, None)));
            };
            if verify_slices_are_equal(right.as_bytes(), request.code.as_bytes()).is_err() {
                // Not an error of the write job, which would be rolled back: the attempt must stay counted.
                tx.record(refused(Code::StepUpCodeWrong, Some(challenge.tries)));
                return Ok(None);
            }
            store::pass_code(tx, &challenge.id, now)?;
            landing::record_continued(tx, &link, now);
            Ok(Some((link, device)))
        })
        .await?;
    let (link, device) = checked.ok_or_else(|| Error::new(Code::StepUpCodeWrong).recorded())?;
    landing::redirect(cx, link, kid, device, now)
}
