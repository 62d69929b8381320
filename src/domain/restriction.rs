//! What a grant does not include.

use std::collections::HashSet;
use std::hash::Hash;

use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_types::Text;
use serde::{Deserialize, Serialize};

use super::Validator;
use crate::db::text_enum;

text_enum! {
    /// What a consultant must not do, though the profile may.
    pub enum Forbidden {
        /// Exporting data.
        Export = "export",
        /// Deleting data.
        Delete = "delete",
        /// Changing passwords and other credentials.
        Credentials = "credentials",
        /// Changing second factors of a login.
        Mfa = "mfa",
        /// Changing e-mail addresses, telephone numbers and postal addresses.
        ContactDetails = "contact_details",
        /// Changing bank accounts.
        BankAccount = "bank_account",
        /// Changing roles and permissions.
        Roles = "roles",
        /// Creating or changing API keys.
        ApiKeys = "api_keys",
        /// Sending mails.
        SendMail = "send_mail",
        /// Giving or withdrawing consent.
        Consent = "consent",
    }
}

impl Forbidden {
    /// The same for people, after "not included:".
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Export => "exporting data",
            Self::Delete => "deleting data",
            Self::Credentials => "changing passwords and other credentials",
            Self::Mfa => "changing second factors",
            Self::ContactDetails => "changing contact details",
            Self::BankAccount => "changing bank accounts",
            Self::Roles => "changing roles and permissions",
            Self::ApiKeys => "creating or changing API keys",
            Self::SendMail => "sending mails",
            Self::Consent => "giving or withdrawing consent",
        }
    }
}

text_enum! {
    /// Why an activity event is beyond what its session allows.
    pub enum ViolationCause {
        /// The access forbids what was done.
        Forbidden = "forbidden",
        /// Something was changed with an access that is read only.
        ReadOnly = "read_only",
        /// It was done after the session had ended.
        AfterEnd = "after_end",
    }
}

impl ViolationCause {
    /// The same for people.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Forbidden => "not included",
            Self::ReadOnly => "changes, though the access is read only",
            Self::AfterEnd => "after the end of the visit",
        }
    }
}

/// Largest number of modules that a grant can name.
const MAX_MODULES: usize = 20;

/// What a grant is limited to: a grant that is limited in nothing has none.
///
/// It is kept as the JSON that the database holds, and never changes.
#[derive(Debug, Clone, PartialEq, Eq, FromSqlRow, AsExpression)]
#[diesel(sql_type = Text)]
pub(crate) struct Restrictions {
    limits: Limits,
    json: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Limits {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    modules: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    forbidden: Vec<Forbidden>,
}

impl Restrictions {
    /// The restrictions of a grant; `None` where it is not restricted.
    pub(crate) fn of(modules: Option<Vec<String>>, forbidden: Vec<Forbidden>) -> Option<Self> {
        if modules.is_none() && forbidden.is_empty() {
            return None;
        }
        let limits = Limits { modules, forbidden };
        Some(Self { json: serde_json::json!(&limits).to_string(), limits })
    }

    /// The same with what a policy forbids, too.
    pub(crate) fn with(restrictions: Option<Self>, more: &[Forbidden]) -> Option<Self> {
        let (modules, mut forbidden) = Self::shown(restrictions.as_ref());
        let missing: Vec<Forbidden> = more.iter().filter(|word| !forbidden.contains(word)).copied().collect();
        if missing.is_empty() {
            return restrictions;
        }
        forbidden.extend(missing);
        Self::of(modules, forbidden)
    }

    /// Checks the members `modules` and `forbidden` of a request.
    pub(crate) fn check(fields: &mut Validator, modules: Option<&[String]>, forbidden: &[Forbidden]) {
        if modules.is_some_and(|modules| !(1..=MAX_MODULES).contains(&modules.len())) {
            fields.error("/modules", "out_of_range", format_args!("must name 1 to {MAX_MODULES} modules"));
        }
        refuse_repeated(fields, "/modules", modules.unwrap_or_default());
        refuse_repeated(fields, "/forbidden", forbidden);
    }

    /// The modules and what is forbidden, as answers show them: neither where nothing is restricted.
    pub(crate) fn shown(restrictions: Option<&Self>) -> (Option<Vec<String>>, Vec<Forbidden>) {
        restrictions
            .map_or_else(Default::default, |Self { limits, .. }| (limits.modules.clone(), limits.forbidden.clone()))
    }

    /// The same as events record them: nothing where nothing is forbidden.
    pub(crate) fn recorded(restrictions: Option<&Self>) -> (Option<Vec<String>>, Option<Vec<Forbidden>>) {
        let (modules, forbidden) = Self::shown(restrictions);
        (modules, Some(forbidden).filter(|words| !words.is_empty()))
    }

    /// What must not be done.
    pub(crate) fn forbidden(&self) -> &[Forbidden] {
        &self.limits.forbidden
    }

    /// The only modules that may be entered, if not every one.
    pub(crate) fn modules(&self) -> Option<&[String]> {
        self.limits.modules.as_deref()
    }
}

fn refuse_repeated<T: Eq + Hash>(fields: &mut Validator, pointer: &str, words: &[T]) {
    let mut seen = HashSet::new();
    for (index, word) in words.iter().enumerate() {
        if !seen.insert(word) {
            fields.error(format!("{pointer}/{index}"), "duplicate", "is named twice");
        }
    }
}

impl<DB: Backend> ToSql<Text, DB> for Restrictions
where
    str: ToSql<Text, DB>,
{
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, DB>) -> serialize::Result {
        self.json.as_str().to_sql(out)
    }
}

impl<DB: Backend> FromSql<Text, DB> for Restrictions
where
    String: FromSql<Text, DB>,
{
    fn from_sql(bytes: DB::RawValue<'_>) -> deserialize::Result<Self> {
        let json = String::from_sql(bytes)?;
        Ok(Self { limits: serde_json::from_str(&json)?, json })
    }
}
