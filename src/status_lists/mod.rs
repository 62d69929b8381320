//! Status lists: what portals that verify access tokens by themselves look at (draft-ietf-oauth-status-list-21).
//!
//! Each session has a index in a list, drawn at random and never used again,
//! and its access tokens name it. A list is a signed JWT with one bit for each
//! index: 1 once the session is over, by whatever cause. Verifiers may keep it
//! for a minute, so they hear of a revocation that much later; whoever cannot
//! wait asks introspection.

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

use crate::clock::Timestamp;
use crate::context::Context;
use crate::db::Conn;
use crate::error::Error;
use crate::records;
use crate::tokens::{Claims, status_list_uri};

/// Places in a list.
const INDEXES: usize = 65_536;

/// So many indexes are drawn at once. A list in which all of them are taken is full enough: a new one begins.
const DRAWN: usize = 8;

/// How long a verifier may keep a list, in seconds.
const TTL_SECONDS: i64 = 60;

/// How long a list can be verified, in seconds.
const LIFE_SECONDS: i64 = 300;

/// The list token.
#[derive(Debug, Serialize, Deserialize)]
struct StatusListClaims {
    iss: String,
    /// The list's own address.
    sub: String,
    iat: i64,
    exp: i64,
    ttl: i64,
    status_list: Bits,
}

#[derive(Debug, Serialize, Deserialize)]
struct Bits {
    /// Bits a index.
    bits: u8,
    /// Base64url of the compressed bytes.
    lst: String,
}

impl Claims for StatusListClaims {
    const TYP: &'static str = "statuslist+jwt";

    fn issued_at(&self) -> i64 {
        self.iat
    }
}

/// The lists that this process has signed.
#[derive(Default)]
pub(crate) struct StatusLists(Mutex<HashMap<i64, Arc<Signed>>>);

/// A list as it was signed, and what it rests on.
#[derive(Debug)]
struct Signed {
    /// Nothing has changed as long as these have not.
    access_epoch: i64,
    key_epoch: i64,
    bytes: Vec<u8>,
    at: Timestamp,
    token: String,
}

/// Draws a index for a session that is about to be opened. The unique index decides if two drew the same.
pub(crate) fn allocate_index(conn: &mut Conn, now: Timestamp) -> Result<(i64, i32), Error> {
    let newest = records::status_lists::newest(conn)?;
    if let Some(index) = allocate_from(conn, newest)? {
        return Ok((newest, index));
    }
    records::status_lists::insert(conn, newest + 1, now)?;
    let index = allocate_from(conn, newest + 1)?;
    index.map(|index| (newest + 1, index)).ok_or_else(|| Error::internal("a new status list is full"))
}

/// A free index in a list, or `None` where it is full enough or not there.
fn allocate_from(conn: &mut Conn, list: i64) -> Result<Option<i32>, Error> {
    if list == 0 {
        return Ok(None);
    }
    let mut drawn = [0_i32; DRAWN];
    drawn.fill_with(|| i32::from(rand::rng().random::<u16>()));
    let taken = records::status_lists::taken(conn, list, &drawn)?;
    Ok(drawn.into_iter().find(|index| !taken.contains(index)))
}

/// The signed list, as it is at this moment.
///
/// # Errors
/// `not_found`; `unavailable` when the store cannot be asked: an old list is never told for a new one.
pub(crate) async fn signed(cx: &Context, cache: &StatusLists, list: i64, now: Timestamp) -> Result<String, Error> {
    // The epochs first: what changes meanwhile is then met once more, and never missed.
    let epochs = cx.snapshot(None, None, now).await?.epochs;
    let mut lists = cache.0.lock().await;
    let known = lists.get(&list).cloned();
    let young =
        |signed: &Signed| signed.key_epoch >= epochs.keys && now.since(signed.at) < Duration::seconds(TTL_SECONDS);
    if let Some(known) = known.as_ref().filter(|known| young(known) && known.access_epoch >= epochs.access) {
        return Ok(known.token.clone());
    }
    let over = cx
        .store
        .read(move |conn| {
            if records::status_lists::exists(conn, list)? {
                Ok(records::status_lists::over(conn, list, now)?)
            } else {
                Err(Error::not_found())
            }
        })
        .await?;
    let bytes = bitmap(over.into_iter());
    let (at, token) = match known.filter(|known| young(known) && known.bytes == bytes) {
        Some(same) => (same.at, same.token.clone()),
        None => (now, sign(cx, list, &bytes, now)?),
    };
    let (access_epoch, key_epoch) = (epochs.access, epochs.keys);
    lists.insert(list, Arc::new(Signed { access_epoch, key_epoch, bytes, at, token: token.clone() }));
    Ok(token)
}

fn sign(cx: &Context, list: i64, bytes: &[u8], now: Timestamp) -> Result<String, Error> {
    let claims = StatusListClaims {
        iss: cx.tokens.issuer().to_owned(),
        sub: status_list_uri(cx.tokens.issuer(), list),
        iat: now.unix_seconds(),
        exp: now.unix_seconds() + LIFE_SECONDS,
        ttl: TTL_SECONDS,
        status_list: Bits { bits: 1, lst: URL_SAFE_NO_PAD.encode(compressed(bytes)?) },
    };
    cx.tokens.sign(&claims, now)
}

/// The addresses of every list that a token which still counts may name (the draft's aggregation).
pub(crate) async fn addresses(cx: &Context, now: Timestamp) -> Result<Vec<String>, Error> {
    // A list is done with once the one after it is older than any session can be.
    let since = now.minus(cx.config.links.max_duration);
    let lists = cx.store.read(move |conn| Ok(records::status_lists::filled_since(conn, since)?)).await?;
    Ok(lists.into_iter().map(|list| status_list_uri(cx.tokens.issuer(), list)).collect())
}

/// One bit a index, the first one in the lowest bit of the first byte.
fn bitmap(over: impl Iterator<Item = i32>) -> Vec<u8> {
    let mut bytes = vec![0; INDEXES / 8];
    for index in over.filter_map(|index| usize::try_from(index).ok()) {
        if let Some(byte) = bytes.get_mut(index / 8) {
            *byte |= 1 << (index % 8);
        }
    }
    bytes
}

/// Zlib (RFC 1950), as small as it gets.
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
