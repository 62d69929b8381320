//! The evidence pack of a link: its complete history in one document that can be
//! verified offline ([`super::verify::verify_evidence`]).
//!
//! Each event comes with its inclusion proof in the tree of one checkpoint, and
//! the log's key signs the SHA-256 of the document.

use actix_web::web::Data;
use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::checkpoint::{self, Current};
use super::folder::{CheckpointFolder, require_whole};
use super::key::LogKey;
use super::{EventFilter, export, store};
use crate::clock::Timestamp;
use crate::context::Context;
use crate::domain::EventType;
use crate::error::{Code, Error};
use crate::http::{Caller, ReadAudit};
use crate::id::LinkId;
use crate::journal::Event;
use crate::journal::leaf::canonical;
use crate::journal::rows::StoredEvent;
use crate::journal::tree::{self, TreeHash, base64};
use crate::{links, mail, records, sessions};

/// Events per pack; a link with more must be exported instead.
const MAX_EVENTS: usize = 10_000;

/// Payloads per pack: in memory, a pack takes several times as much.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// Bytes of a pack, as it is sent, and what an event takes of them beside its payload: its leaf, and the proof.
const MAX_PACK_BYTES: usize = 16 * 1024 * 1024;
const EVENT_BYTES: usize = 1_400;

/// Purpose line of the signed text: it separates signatures over evidence from those over checkpoints.
pub(super) const PURPOSE: &str = "evidence";

/// The signed text: log origin, purpose, and SHA-256 of the canonical evidence.
pub(super) fn signed_text(origin: &str, evidence: &str) -> String {
    let hash = base64(digest(&SHA256, evidence.as_bytes()).as_ref());
    format!("{origin}\n{PURPOSE}\n{hash}\n")
}

/// Builds the evidence pack of a link as one canonical JSON object. The request is recorded too.
///
/// # Errors
/// `evidence_too_large` where the link has more than 10,000 events, 8 MiB of payloads, or 1,000 sessions, or the pack 16 MiB;
/// those of a checkpoint.
pub(crate) async fn pack(
    cx: &Context,
    (key, folder): (&Data<LogKey>, &CheckpointFolder),
    caller: &Caller<ReadAudit>,
    link_id: LinkId,
    now: Timestamp,
) -> Result<String, Error> {
    let (reach, log_key, id) = (caller.reach.clone(), key.clone(), link_id.clone());
    let event = Event::new(EventType::AuditRead, caller.actor(None), now)
        .client(caller.client_id.as_ref())
        .with(&json!({ "what": "evidence", "magic_link_id": link_id }));
    let whole = require_whole(cx, folder).await?;
    key.refresh(cx).await?;
    // The signature is under the name and by the key of the checkpoint, whatever becomes of the log meanwhile.
    let (link, Current { checkpoint, signer, log_name }) = cx
        .store
        .write(move |tx| {
            let link = links::one_within(tx, &id, &reach, now)?.ok_or_else(Error::not_found)?;
            let current = checkpoint::current(tx, (&log_key, whole), &link.tenant_id, now)?;
            tx.record(event.clone().tenant(&link.tenant_id));
            Ok((link, current))
        })
        .await?;
    let reach = caller.reach.clone();
    // A read, not part of the write above: gathering is slow and must not block writers.
    let text = cx
        .store
        .read_large(move |conn| {
            let tenant_id = link.tenant_id.clone();
            let filter = EventFilter {
                tenant_id: Some(tenant_id.clone()),
                magic_link_id: Some(link_id.clone()),
                ..EventFilter::default()
            };
            let mut rows = Vec::new();
            let (mut next, mut bytes) = (0, 0);
            while next < checkpoint.size {
                let (piece, after) = store::piece(conn, &filter, &reach, next..checkpoint.size)?;
                next = after;
                bytes += piece.iter().map(store::bytes).sum::<usize>();
                rows.extend(piece);
                let at_least = bytes + rows.len() * EVENT_BYTES;
                if rows.len() > MAX_EVENTS || bytes > MAX_BYTES || at_least > MAX_PACK_BYTES {
                    return Err(Code::EvidenceTooLarge.into());
                }
            }
            let sessions = sessions::views_of_link(conn, &link_id, now)?.ok_or(Code::EvidenceTooLarge)?;
            let limit = i64::try_from(MAX_EVENTS).map_err(Error::internal)?;
            // Each notice of each resend is one: of few events many mails may follow.
            let mails = mail::of_link(conn, &link_id, limit + 1)?;
            if mails.len() > MAX_EVENTS {
                return Err(Code::EvidenceTooLarge.into());
            }
            let ends = records::link_changes::ends_of(conn, &link_id, limit)?;
            let corrections = records::link_changes::corrections_of(conn, &link_id, limit)?;
            let extensions = records::extension_requests::of_link(conn, &link_id, limit)?;
            let shown = |asked| links::extension_shown(asked, &link, now);
            let extensions: Vec<Value> = extensions.into_iter().map(shown).collect();
            let erasures = store::erasures(conn, std::slice::from_ref(&tenant_id), 0..checkpoint.size)?;
            let size = u64::try_from(checkpoint.size).map_err(Error::internal)?;
            let indexes: Vec<u64> = rows.iter().filter_map(|(row, _)| u64::try_from(row.log_index).ok()).collect();
            let proofs = tree::prove(conn, &tenant_id, |nodes| {
                indexes.iter().map(|index| tlog_tiles::prove_record(size, *index, nodes)).collect::<Result<Vec<_>, _>>()
            })?;
            let proofs = proofs.map_err(Error::internal)?;
            let (mut events, mut refusals) = (Vec::new(), Vec::new());
            for ((row, payload), proof) in rows.into_iter().zip(proofs) {
                let refused = row.event_type.result() == super::EventResult::Refused;
                let proven = proven((row, payload), &erasures, &tree::shown(proof))?;
                if refused { refusals.push(proven) } else { events.push(proven) }
            }
            let revocation = link
                .revoked_at
                .map(|at| json!({ "revoked_at": at, "revoked_by": link.revoked_by, "reason": link.revoke_reason }));
            let mut evidence = json!({
                "made_at": now, "tenant_id": tenant_id, "link": link,
                "mails": mails, "sessions": sessions,
                "ends": ends, "extensions": extensions, "corrections": corrections,
                "events": events, "refusals": refusals, "checkpoint": checkpoint.note,
            });
            if let (Some(revocation), Some(members)) = (revocation, evidence.as_object_mut()) {
                members.insert("revocation".to_owned(), revocation);
            }
            let text = canonical(&evidence)?;
            if text.len() > MAX_PACK_BYTES { Err(Code::EvidenceTooLarge.into()) } else { Ok(text) }
        })
        .await?;
    let origin = key.origin(&log_name);
    let note = signer.sign(&origin, signed_text(&origin, &text).as_bytes())?;
    let signature = note.rsplit_once("\n\n").map_or("", |(_, signature)| signature);
    Ok(format!("{{\"evidence\":{text},\"signature\":{}}}\n", canonical(&signature)?))
}

/// An event as in an export, with its inclusion proof.
fn proven((row, payload): StoredEvent, erasures: &[store::Erasure], proof: &[TreeHash]) -> Result<Value, Error> {
    let erased = if payload.is_none() { store::erased(&row, erasures) } else { None };
    let object = export::object(&row, payload.as_ref(), erased.as_ref())?;
    let mut object: Value = serde_json::from_str(&object).map_err(Error::internal)?;
    if let Some(members) = object.as_object_mut() {
        members.insert("proof".to_owned(), json!(proof));
    }
    Ok(object)
}
