//! Lists: a page at a time, newest first, with an opaque cursor.
//!
//! A cursor names the last item of a page. It is signed together with the
//! filters, so that it cannot be forged or used for another list.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::error::{Code, Error};
use crate::secrets::MasterKey;

const DEFAULT_SIZE: u32 = 50;
const MAX_SIZE: u32 = 200;
const SIGNATURE_BYTES: usize = 32;

/// Refuses filters that contain NUL.
///
/// PostgreSQL has no NUL in text: the query would fail like an error of the database.
///
/// # Errors
/// `invalid_query`
pub(crate) fn check_filters<'a>(texts: impl IntoIterator<Item = &'a Option<String>>) -> Result<(), Error> {
    if texts.into_iter().flatten().any(|text| text.contains('\0')) {
        return Err(Error::new(Code::InvalidQuery).detail("a filter must not contain NUL"));
    }
    Ok(())
}

/// Paging parameters of a list.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Paging {
    /// Number of items on a page: 1 to 200, default 50. Values outside of the range are clamped.
    #[param(minimum = 1, maximum = 200, example = 50)]
    pub page_size: Option<u32>,
    /// Value of `next_cursor` of the previous page; absent for the first page.
    #[param(max_length = 200)]
    pub cursor: Option<String>,
}

/// Page of a list.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Page<T> {
    /// Items of the page, newest first unless the operation states another order.
    #[schema(max_items = 200)]
    pub items: Vec<T>,
    /// Cursor of the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    pub next_cursor: Option<String>,
}

/// A validated request for a page: what to read from the store.
#[derive(Debug, Clone)]
pub(crate) struct PageRequest {
    /// Only items that come after this one.
    pub after: Option<String>,
    /// One more than the size of the page: an extra item shows that there is a next page.
    pub limit: i64,
    size: usize,
    filters: String,
}

impl Paging {
    /// Checks the cursor against the list and its filters.
    ///
    /// # Errors
    /// `invalid_cursor` if this service did not issue the cursor for this list and these filters.
    pub(crate) fn open(self, master_key: &MasterKey, filters: impl std::fmt::Debug) -> Result<PageRequest, Error> {
        let filters = format!("{filters:?}");
        let after = match self.cursor {
            Some(cursor) => Some(verify(master_key, &cursor, &filters).ok_or(Code::InvalidCursor)?),
            None => None,
        };
        let size = self.page_size.unwrap_or(DEFAULT_SIZE).clamp(1, MAX_SIZE);
        Ok(PageRequest { after, limit: i64::from(size) + 1, size: size as usize, filters })
    }
}

impl PageRequest {
    /// Builds the page from the rows of the store.
    pub(crate) fn answer<R, T>(
        &self,
        master_key: &MasterKey,
        mut rows: Vec<R>,
        key: impl Fn(&R) -> &str,
        show: impl Fn(R) -> T,
    ) -> Page<T> {
        let more = rows.len() > self.size;
        rows.truncate(self.size);
        let next_cursor = rows.last().filter(|_| more).map(|row| sign(master_key, key(row), &self.filters));
        Page { items: rows.into_iter().map(show).collect(), next_cursor }
    }
}

fn signed_text(key: &str, filters: &str) -> Vec<u8> {
    format!("{}:{key}:{filters}", key.len()).into_bytes()
}

fn sign(master_key: &MasterKey, key: &str, filters: &str) -> String {
    let tag = master_key.sign_cursor(&signed_text(key, filters));
    URL_SAFE_NO_PAD.encode([tag.as_ref(), key.as_bytes()].concat())
}

fn verify(master_key: &MasterKey, cursor: &str, filters: &str) -> Option<String> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let (tag, key) = bytes.split_at_checked(SIGNATURE_BYTES)?;
    let key = std::str::from_utf8(key).ok()?;
    master_key.verify_cursor(&signed_text(key, filters), tag).then(|| key.to_owned())
}
