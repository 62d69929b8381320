//! Ids: a prefix for the kind, and a UUIDv7, which sorts by time.
//!
//! The format is TypeID (`mlk_01jd…`): 26 characters of lowercase Crockford base
//! 32. Ids of different kinds are different types.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::{fmt, mem};

use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_types::Text;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::{ContextV7, Uuid};

use crate::clock::Timestamp;

/// Kind of thing that an id names, and its prefix of three letters.
pub trait Kind: Send + Sync + 'static {
    /// The prefix, without its underscore.
    const PREFIX: &'static str;
    /// A well-formed id for the API description.
    const EXAMPLE: &'static str;
}

/// An id of one kind.
#[derive(AsExpression, FromSqlRow)]
#[diesel(sql_type = Text)]
pub struct Id<K: Kind>(String, PhantomData<fn() -> K>);

/// The text was not an id of the expected kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {0}_ and 26 characters of lowercase base 32")]
pub struct InvalidId(&'static str);

/// Crockford's base 32 in lowercase.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Keep ids of one millisecond in the order of their creation, whatever other clocks of the process tell in between.
static ORDERS: Mutex<Orders> = Mutex::new(Orders { recent: BTreeMap::new(), before: BTreeMap::new() });

/// Milliseconds whose order is known by itself: so many at least, and at most twice as many.
const MOMENTS: usize = 1_024;

/// The orders of the milliseconds that ids were made in, in two generations.
struct Orders {
    recent: BTreeMap<i64, ContextV7>,
    before: BTreeMap<i64, ContextV7>,
}

impl Orders {
    fn of(&mut self, millis: i64) -> &ContextV7 {
        let known = self.before.remove(&millis);
        if self.recent.len() == MOMENTS && !self.recent.contains_key(&millis) {
            self.before = mem::take(&mut self.recent);
        }
        self.recent.entry(millis).or_insert_with(|| known.unwrap_or_default())
    }
}

impl<K: Kind> Id<K> {
    /// A fresh id that sorts by `now`.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        let moment = now.to_utc();
        let seconds = u64::try_from(moment.unix_timestamp()).unwrap_or(0);
        let millis = now.unix_micros() / 1_000;
        let mut orders = ORDERS.lock().unwrap_or_else(PoisonError::into_inner);
        let uuid = Uuid::new_v7(uuid::Timestamp::from_unix(orders.of(millis), seconds, moment.nanosecond()));
        Self::from_uuid(uuid)
    }

    /// Lower bound of the ids created at or after a moment: the start of a range by time.
    #[must_use]
    pub fn first_at(at: Timestamp) -> Self {
        let millis = u64::try_from(at.unix_micros() / 1_000).unwrap_or(0);
        Self::from_uuid(uuid::Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid())
    }

    fn from_uuid(uuid: Uuid) -> Self {
        let bits = uuid.as_u128();
        let mut text = String::with_capacity(K::PREFIX.len() + 27);
        text.push_str(K::PREFIX);
        text.push('_');
        // 26 digits of five bits, the highest first; every five bits have a digit.
        let digit = |place| ALPHABET.get(((bits >> (5 * place)) & 31) as usize);
        text.extend((0..26_u32).rev().filter_map(digit).copied().map(char::from));
        Self(text, PhantomData)
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 26 characters after the prefix.
    #[must_use]
    pub fn suffix(&self) -> &str {
        self.0.split_once('_').map_or("", |(_, suffix)| suffix)
    }

    /// The id whose suffix this is.
    ///
    /// # Errors
    /// [`InvalidId`] when it is not 26 characters of lowercase base 32.
    pub fn from_suffix(suffix: &str) -> Result<Self, InvalidId> {
        format!("{}_{suffix}", K::PREFIX).parse()
    }
}

/// What follows the prefix in the pattern of an id: 26 digits of base 32, of which the first holds three bits.
pub(crate) const SUFFIX_PATTERN: &str = "_[0-7][0-9a-hjkmnp-tv-z]{25}$";

/// Whether a text is an id with this prefix, in the canonical spelling: two texts must never name one thing.
pub(crate) fn is_id(prefix: &str, text: &str) -> bool {
    text.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('_')).is_some_and(is_suffix)
}

/// Whether a text is 128 bits in lowercase Crockford base 32. Nothing is decoded: every API key contains one, so this
/// runs on each request.
fn is_suffix(text: &str) -> bool {
    let in_alphabet = |byte: u8| byte.is_ascii_digit() || (byte.is_ascii_lowercase() && !b"ilou".contains(&byte));
    text.len() == 26 && text.as_bytes().first() <= Some(&b'7') && text.bytes().all(in_alphabet)
}

impl<K: Kind> FromStr for Id<K> {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if is_id(K::PREFIX, text) { Ok(Self(text.to_owned(), PhantomData)) } else { Err(InvalidId(K::PREFIX)) }
    }
}

impl<K: Kind> Clone for Id<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), PhantomData)
    }
}

impl<K: Kind> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<K: Kind> Eq for Id<K> {}

impl<K: Kind> Hash for Id<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl<K: Kind> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<K: Kind> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<K: Kind> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de, K: Kind> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl<K: Kind + fmt::Debug, DB: Backend> ToSql<Text, DB> for Id<K>
where
    str: ToSql<Text, DB>,
{
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, DB>) -> serialize::Result {
        self.0.as_str().to_sql(out)
    }
}

impl<K: Kind, DB: Backend> FromSql<Text, DB> for Id<K>
where
    String: FromSql<Text, DB>,
{
    fn from_sql(bytes: DB::RawValue<'_>) -> deserialize::Result<Self> {
        Ok(Self(String::from_sql(bytes)?, PhantomData))
    }
}

impl<K: Kind> utoipa::PartialSchema for Id<K> {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        use utoipa::openapi::schema::{ObjectBuilder, Type};
        ObjectBuilder::new()
            .schema_type(Type::String)
            .pattern(Some(format!("^{}{SUFFIX_PATTERN}", K::PREFIX)))
            .min_length(Some(30))
            .max_length(Some(30))
            .examples([serde_json::Value::from(K::EXAMPLE)])
            .build()
            .into()
    }
}

impl<K: Kind> utoipa::ToSchema for Id<K> {
    fn name() -> std::borrow::Cow<'static, str> {
        std::borrow::Cow::Owned(format!("{}_id", K::PREFIX))
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $id:ident = $kind:ident $prefix:literal $example:literal;)*) => {$(
        #[doc = concat!("The kind behind [`", stringify!($id), "`].")]
        #[derive(Debug, Clone, Copy)]
        pub enum $kind {}

        impl Kind for $kind {
            const PREFIX: &'static str = $prefix;
            const EXAMPLE: &'static str = concat!($prefix, "_", $example);
        }

        $(#[$doc])*
        pub type $id = Id<$kind>;
    )*};
}

kinds! {
    /// A magic link.
    LinkId = LinkKind "mlk" "01kaq3v9e8fwmvd2x7n0c5hb1z";
    /// A session at a portal.
    SessionId = SessionKind "ses" "01kaq3v9e8fwmvd2x7n0c5hb2z";
    /// A support consultant.
    ConsultantId = ConsultantKind "con" "01kaq3v9e8fwmvd2x7n0c5hb3z";
    /// An API client.
    ClientId = ClientKind "cli" "01kaq3v9e8fwmvd2x7n0c5hb4z";
    /// An audit event.
    EventId = EventKind "evt" "01kaq3v9e8fwmvd2x7n0c5hb5z";
    /// A mail job.
    MailJobId = MailJobKind "mjb" "01kaq3v9e8fwmvd2x7n0c5hb6z";
    /// A legal hold.
    HoldId = HoldKind "hld" "01kaq3v9e8fwmvd2x7n0c5hb7z";
    /// A requested step-up code.
    StepUpId = StepUpKind "stp" "01kaq3v9e8fwmvd2x7n0c5hb8z";
    /// A suppressed address.
    SuppressionId = SuppressionKind "sup" "01kaq3v9e8fwmvd2x7n0c5hb9z";
    /// A bulk revocation.
    RevocationId = RevocationKind "rvk" "01kaq3v9e8fwmvd2x7n0c5hbaz";
    /// A webhook endpoint.
    EndpointId = EndpointKind "whe" "01kaq3v9e8fwmvd2x7n0c5hc1z";
    /// A message to a webhook endpoint.
    MessageId = MessageKind "whm" "01kaq3v9e8fwmvd2x7n0c5hc2z";
    /// A scheduled check of a session's activity reports.
    ReportCheckId = ReportCheckKind "rck" "01kaq3v9e8fwmvd2x7n0c5hc3z";
    /// A change of a link's end.
    ExtensionId = ExtensionKind "ext" "01kaq3v9e8fwmvd2x7n0c5hc4z";
    /// A correction of a link's reason or ticket.
    CorrectionId = CorrectionKind "cor" "01kaq3v9e8fwmvd2x7n0c5hc5z";
}

#[cfg(test)]
mod tests {
    use type_safe_id::{DynamicType, TypeSafeId};

    use super::*;
    use crate::clock::Clock;

    #[test]
    fn fresh_ids_sort_in_the_order_they_were_made() {
        let now = Clock::System.now();
        let ids: Vec<String> = (0..1_000).map(|_| LinkId::new(now).to_string()).collect();
        assert!(ids.is_sorted());
    }

    #[test]
    fn ids_of_a_moment_sort_in_their_order_whatever_other_clocks_tell_meanwhile() {
        let (now, others) = (Clock::System.now(), [70, 130, -50, 100_000, -100_000]);
        let ids = (0..500).map(|number| {
            for seconds in others {
                let other = time::Duration::seconds(seconds) + time::Duration::milliseconds(number);
                assert_ne!(LinkId::new(now.plus(other)).as_str(), "");
            }
            LinkId::new(now).to_string()
        });
        assert!(ids.collect::<Vec<_>>().is_sorted());
    }

    #[test]
    fn ids_are_of_the_right_time_again_when_a_clock_that_was_ahead_is_set_right() {
        let now = Clock::System.now();
        for _ in 0..40 {
            let ahead = now.plus(time::Duration::days(420));
            assert!(LinkId::new(ahead).as_str() >= LinkId::first_at(ahead).as_str());
            let ids = [0, 1, 2].map(|_| LinkId::new(now).to_string());
            let next = now.plus(time::Duration::MINUTE);
            assert!(ids.is_sorted() && *ids[2] < *LinkId::first_at(next).as_str(), "{ids:?}");
        }
    }

    #[test]
    fn a_range_by_time_begins_before_every_id_of_its_moment() {
        let now = Clock::System.now();
        assert!(LinkId::first_at(now).as_str() < LinkId::new(now).as_str());
        let earlier = now.minus(time::Duration::hours(1));
        assert!(LinkId::first_at(earlier).as_str() < LinkId::first_at(now).as_str());
    }

    #[test]
    fn only_the_canonical_spelling_of_the_right_kind_is_an_id() {
        let id = LinkId::new(Clock::System.now());
        assert_eq!(id.as_str().parse::<LinkId>(), Ok(id.clone()));
        assert_eq!(LinkId::from_suffix(id.suffix()), Ok(id.clone()));
        assert!(id.as_str().parse::<SessionId>().is_err());
        let upper = format!("mlk_{}", id.suffix().to_uppercase());
        for wrong in ["", "mlk_", "mlk_1", upper.as_str(), "01kaq3v9e8fwmvd2x7n0c5hb1z"] {
            assert!(wrong.parse::<LinkId>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_id_is_spelled_as_the_library_spells_it() {
        let one_bit = (0..128).map(|place| 1_u128 << place);
        for bits in one_bit.chain([0, u128::MAX, 0x0123_4567_89ab_cdef_fedc_ba98_7654_3210]) {
            let uuid = Uuid::from_u128(bits);
            let library = TypeSafeId::from_type_and_uuid(DynamicType::new("mlk").unwrap(), uuid);
            assert_eq!(LinkId::from_uuid(uuid).as_str(), library.to_string());
        }
    }

    #[test]
    fn what_is_taken_for_an_id_is_what_the_library_takes() {
        let library = |text: &str| text.parse::<TypeSafeId<DynamicType>>().is_ok_and(|id| id.to_string() == text);
        let id = LinkId::new(Clock::System.now()).to_string();
        for position in 4..id.len() {
            for byte in 0x20..0x7f_u8 {
                let mut changed = id.clone();
                changed.replace_range(position..=position, &char::from(byte).to_string());
                assert_eq!(changed.parse::<LinkId>().is_ok(), library(&changed), "{changed}");
            }
        }
    }

    #[test]
    fn the_examples_are_ids() {
        assert!(LinkKind::EXAMPLE.parse::<LinkId>().is_ok());
        assert!(MailJobKind::EXAMPLE.parse::<MailJobId>().is_ok());
    }
}
