//! A status list tells portals that verify access tokens locally which sessions have ended
//! (draft-ietf-oauth-status-list-21).
//!
//! Each session has an index in a list, allocated at random and never reused,
//! and its access tokens name it. A list is a signed JWT with one bit for each
//! index: 1 once the session has ended, for any cause. Verifiers may cache it for a
//! minute, so a revocation reaches them that much later; portals that need it at
//! once use introspection.

pub(crate) mod routes;

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use time::Duration;
use tokio::sync::Mutex;

use crate::access::Epochs;
use crate::clock::Timestamp;
use crate::context::Context;
use crate::db::Conn;
use crate::error::Error;
use crate::records;
use crate::store::{ANSWER_TIMEOUT, within};
use crate::tokens::{Claims, status_list_uri};

/// Number of indexes in a list.
const INDEXES: usize = 65_536;

/// Number of indexes that are drawn for a session.
const DRAWN: usize = 8;

/// How far the number of the first list after a restore may lie from the last one before it.
const FAR: i64 = 1 << 40;

/// How long a verifier may cache a list, in seconds.
const TTL_SECONDS: i64 = 60;

/// How long a list token is valid, in seconds.
const LIFE_SECONDS: i64 = 300;

/// Claims of a status list token.
#[derive(Debug, Serialize, Deserialize)]
struct StatusListClaims {
    iss: String,
    /// URL of the list.
    sub: String,
    iat: i64,
    exp: i64,
    ttl: i64,
    status_list: Bits,
}

#[derive(Debug, Serialize, Deserialize)]
struct Bits {
    /// Number of bits for each index.
    bits: u8,
    /// Zlib-compressed bytes (RFC 1950), in base64url.
    lst: String,
}

impl Claims for StatusListClaims {
    const TYP: &'static str = "statuslist+jwt";

    fn issued_at(&self) -> i64 {
        self.iat
    }
}

/// Cache of the lists signed by this process.
#[derive(Default)]
pub(crate) struct StatusLists(Mutex<HashMap<i64, Arc<Signed>>>);

/// A signed list, and the epochs it was read at.
#[derive(Debug)]
struct Signed {
    /// The list is current while no epoch has changed,
    epochs: Epochs,
    /// and until the first of its sessions ends by time, which changes no epoch. One that was opened since is not among
    /// them: its token says itself when it ends, and whatever moves that end changes an epoch.
    until: Option<Timestamp>,
    bytes: Vec<u8>,
    at: Timestamp,
    token: String,
}

/// Indexes that are drawn for a new session.
pub(crate) fn draw() -> [i32; DRAWN] {
    let mut drawn = [0; DRAWN];
    drawn.fill_with(|| i32::from(rand::rng().random::<u16>()));
    drawn
}

/// Allocates one of the indexes that were drawn, given the newest list and those that are taken in it. Where all of them
/// are, the list is full enough, and a new one begins. If two sessions choose the same one, the unique constraint refuses
/// the second.
pub(crate) fn allocate_index(
    conn: &mut Conn,
    drawn: &[i32; DRAWN],
    newest: Option<i64>,
    taken: Option<&str>,
    now: Timestamp,
) -> Result<(i64, i32), Error> {
    let taken: Vec<i32> = taken.unwrap_or_default().split(' ').filter_map(|index| index.parse().ok()).collect();
    let free = drawn.iter().find(|index| !taken.contains(index));
    if let (Some(newest), Some(index)) = (newest, free) {
        return Ok((newest, *index));
    }
    let next = newest.unwrap_or(0) + 1;
    records::status_lists::insert(conn, next, now)?;
    let [index, ..] = drawn;
    Ok((next, *index))
}

/// The signed list, as of now.
///
/// # Errors
/// `not_found`; `unavailable` when the store is unavailable: a stale list is never returned instead.
pub(crate) async fn signed(cx: &Context, cache: &StatusLists, list: i64, now: Timestamp) -> Result<String, Error> {
    // The epochs are read first: a change during the read is then read again, never missed.
    let epochs = cx.snapshot(None, None, now).await?.epochs;
    // All who wait for the lock share the time-out.
    within(ANSWER_TIMEOUT, signed_at(cx, cache, list, epochs, now)).await
}

async fn signed_at(
    cx: &Context,
    cache: &StatusLists,
    list: i64,
    epochs: Epochs,
    now: Timestamp,
) -> Result<String, Error> {
    let mut lists = cache.0.lock().await;
    let known = lists.get(&list).cloned();
    let young = |signed: &Signed| {
        signed.epochs.have_keys_of(&epochs) && now.last(Duration::seconds(TTL_SECONDS)).contains(signed.at)
    };
    let current = |signed: &Signed| signed.epochs == epochs && signed.until.is_none_or(|until| now < until);
    if let Some(known) = known.as_ref().filter(|known| young(known) && current(known)) {
        return Ok(known.token.clone());
    }
    let (bytes, until, is_kept) = cx
        .store
        .read(move |conn| {
            // A list from before a restore, even if the backup does not know it.
            if (1..records::status_lists::first(conn)?).contains(&list) {
                return Ok((vec![u8::MAX; INDEXES / 8], None, false));
            }
            if records::status_lists::exists(conn, list)? {
                let over = records::status_lists::over(conn, list, now)?;
                Ok((bitmap(over.into_iter()), records::status_lists::next_end(conn, list, now)?, true))
            } else {
                Err(Error::not_found())
            }
        })
        .await?;
    let (at, token) = match known.filter(|known| young(known) && known.bytes == bytes) {
        Some(same) => (same.at, same.token.clone()),
        None => (now, sign(cx, list, &bytes, now)?),
    };
    // There is no end of numbers from before a restore.
    if is_kept {
        lists.insert(list, Arc::new(Signed { epochs, until, bytes, at, token: token.clone() }));
    }
    Ok(token)
}

fn sign(cx: &Context, list: i64, bytes: &[u8], now: Timestamp) -> Result<String, Error> {
    let claims = StatusListClaims {
        iss: cx.tokens.issuer().to_owned(),
        sub: status_list_uri(&cx.config.public_url, list),
        iat: now.unix_seconds(),
        exp: now.unix_seconds() + LIFE_SECONDS,
        ttl: TTL_SECONDS,
        status_list: Bits { bits: 1, lst: URL_SAFE_NO_PAD.encode(compressed(bytes)?) },
    };
    cx.tokens.sign(&claims, now)
}

/// Sets every bit of every list so far, and begins a new one.
///
/// Its number is far from those that were given out after the backup was made: a token that names one of them must not
/// find the bit of another session.
pub(crate) fn begin_anew(conn: &mut Conn, now: Timestamp) -> diesel::QueryResult<()> {
    let first = records::status_lists::newest(conn)? + rand::rng().random_range(1..=FAR);
    records::status_lists::insert(conn, first, now)?;
    records::status_lists::set_first(conn, first).map(drop)
}

/// URLs of every list that a valid access token may name (status list aggregation of the draft).
pub(crate) async fn addresses(cx: &Context, now: Timestamp) -> Result<Vec<String>, Error> {
    // A list is obsolete once the next one is older than any session can be.
    let since = now.minus(cx.config.links.max_duration);
    let lists = cx.store.read(move |conn| Ok(records::status_lists::filled_since(conn, since)?)).await?;
    Ok(lists.into_iter().map(|list| status_list_uri(&cx.config.public_url, list)).collect())
}

/// One bit for each index, index 0 in the lowest bit of the first byte.
fn bitmap(over: impl Iterator<Item = i32>) -> Vec<u8> {
    let mut bytes = vec![0; INDEXES / 8];
    for index in over.filter_map(|index| usize::try_from(index).ok()) {
        if let Some(byte) = bytes.get_mut(index / 8) {
            *byte |= 1 << (index % 8);
        }
    }
    bytes
}

/// Zlib (RFC 1950) at the best compression level.
fn compressed(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).map_err(Error::internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_is_that_of_the_draft() {
        // The draft's example: 1 0 0 1 1 1 0 1, 1 1 0 0 0 1 0 1.
        let over = [0, 3, 4, 5, 7, 8, 9, 13, 15];
        let bytes = bitmap(over.into_iter());
        assert_eq!(bytes.get(..2), Some([0xb9, 0xa3].as_slice()));
        assert_eq!(bytes.len(), 8_192);
        let encoded = compressed(&[0xb9, 0xa3]).unwrap();
        assert_eq!(encoded, [0x78, 0xda, 0xdb, 0xb9, 0x18, 0x00, 0x02, 0x17, 0x01, 0x5d]);
    }

    #[test]
    fn a_place_outside_of_the_list_is_let_fall() {
        assert!(bitmap([-1, 65_536, i32::MAX].into_iter()).iter().all(|byte| *byte == 0));
    }
}
