//! Lists: a page at a time, newest first, with an opaque cursor.
//!
//! A cursor names the last item of a page. It is signed together with the
//! filters, so that it cannot be forged or used for another list.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Cursor;
use crate::error::{Code, Error};
use crate::secrets::MasterKey;

const DEFAULT_SIZE: u32 = 50;
const MAX_SIZE: u32 = 200;
const SIGNATURE_BYTES: usize = 32;

/// Paging parameters of a list.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Paging {
    /// Items per page, 50 by default; a value above 200 counts as 200.
    #[param(minimum = 1, default = 50)]
    pub page_size: Option<u32>,
    /// Value of `next_cursor` of the previous page; absent for the first page.
    #[param(value_type = Option<Cursor>)]
    pub cursor: Option<String>,
}

/// Page of a list.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Page<T> {
    /// Items of the page, newest first unless the operation says otherwise. A call reads so many rows and bytes at most: a
    /// page with a `next_cursor` may have few, or none.
    #[schema(max_items = 200)]
    pub items: Vec<T>,
    /// Cursor of the next page; absent only on the last page.
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

/// Rows that were read for a page. The read may have stopped early, so that no call reads without end.
#[derive(Debug)]
pub(crate) struct Scan<R> {
    pub rows: Vec<R>,
    /// The last item that was looked at, where there may be more.
    pub stopped_at: Option<String>,
}

impl<R> Scan<R> {
    /// All rows that were requested.
    pub(crate) const fn whole(rows: Vec<R>) -> Self {
        Self { rows, stopped_at: None }
    }

    /// The rows for a page, read down to `end`: where they fill the page, it does not matter where the read stopped.
    pub(crate) fn to(rows: Vec<R>, page: &PageRequest, end: Option<String>) -> Self {
        let stopped_at = end.filter(|_| rows.len() <= page.size);
        Self { rows, stopped_at }
    }

    /// The rows of two reads as one, newest first: nothing is shown below the place where one of them stopped.
    pub(crate) fn merged(self, other: Self, limit: i64, key: impl Fn(&R) -> &str) -> Self {
        let stopped_at = self.stopped_at.max(other.stopped_at);
        let mut rows: Vec<R> = self.rows.into_iter().chain(other.rows).collect();
        rows.retain(|row| stopped_at.as_deref().is_none_or(|end| key(row) >= end));
        rows.sort_by(|one, two| key(two).cmp(key(one)));
        // What moved from one to the other meanwhile stands in both: the first one counts.
        rows.dedup_by(|later, first| key(later) == key(first));
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Self { rows, stopped_at }
    }

    /// Converts the rows.
    pub(crate) fn try_map<T, E>(self, convert: impl FnOnce(Vec<R>) -> Result<Vec<T>, E>) -> Result<Scan<T>, E> {
        Ok(Scan { rows: convert(self.rows)?, stopped_at: self.stopped_at })
    }
}

impl PageRequest {
    /// Builds the page from the rows of the store.
    pub(crate) fn answer<R, T>(
        &self,
        master_key: &MasterKey,
        read: impl Into<Scan<R>>,
        key: impl Fn(&R) -> &str,
        show: impl Fn(R) -> T,
    ) -> Page<T> {
        let Scan { mut rows, stopped_at } = read.into();
        let more = rows.len() > self.size;
        rows.truncate(self.size);
        let last = if more { rows.last().map(&key) } else { stopped_at.as_deref() };
        let next_cursor = last.map(|last| sign(master_key, last, &self.filters));
        Page { items: rows.into_iter().map(show).collect(), next_cursor }
    }
}

impl<R> From<Vec<R>> for Scan<R> {
    fn from(rows: Vec<R>) -> Self {
        Self::whole(rows)
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
