//! Counts of mail jobs, for the limits of mails.

use diesel::dsl::{exists, not};
use diesel::prelude::*;
use diesel::sql_types::{Bool, Nullable, Text};

use super::Job;
use crate::clock::{Stretch, Timestamp, lies_in};
use crate::db::Conn;
use crate::db::schema::{mail_jobs as jobs, tenants};
use crate::domain::Template;
use crate::id::{LinkId, MailJobId};
use crate::records::links::Link;

#[diesel::declare_sql_function]
extern "SQL" {
    /// A text in lower case.
    fn lower(text: Nullable<Text>) -> Nullable<Text>;
}

/// Mails that open an access, and are no notices: `turns` and its index name them, too.
pub(in crate::mail) const OPENING: [Template; 2] = [Template::MagicLink, Template::StepUpCode];

/// A mail with a link to a consultant.
#[derive(Debug, Clone, Queryable)]
pub(in crate::mail) struct LinkMail {
    pub magic_link_id: Option<LinkId>,
    pub generation: Option<i32>,
    pub created_at: Timestamp,
    pub tenant_id: String,
}

/// Condition that a mail goes to an address, in whichever spelling, as its index has it.
macro_rules! is_to {
    ($address:expr) => {
        jobs::recipient.is_not_null().and(lower(jobs::recipient).eq($address.to_lowercase()))
    };
}

/// The mails with links to a consultant that were queued lately, for whichever tenant, newest first.
pub(in crate::mail) fn link_mails(
    conn: &mut Conn,
    link: &Link,
    lately: Stretch,
    limit: i64,
) -> QueryResult<Vec<LinkMail>> {
    jobs::table
        .filter(jobs::consultant_id.eq(&link.consultant_id))
        .filter(jobs::id.gt(MailJobId::first_at(lately.after)))
        .filter(lies_in!(jobs::created_at, lately))
        .filter(jobs::template.eq(Template::MagicLink))
        .order(jobs::id.desc())
        .limit(limit)
        .select((jobs::magic_link_id, jobs::generation, jobs::created_at, jobs::tenant_id))
        .load(conn)
}

/// Which mails to the same person count beside a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mail) enum Beside {
    /// All.
    All,
    /// Those of its tenant.
    OfTenant,
    /// Those of its template.
    OfKind,
}

/// Whether somebody was sent so many mails lately, or will be by those that stand before `job` in the queue. A consultant
/// has those without an address of their own, but for links and codes.
pub(in crate::mail) fn was_mailed_often(
    conn: &mut Conn,
    (job, beside): (&Job, Beside),
    lately: Stretch,
    limit: i64,
) -> QueryResult<bool> {
    let stands_before =
        jobs::finished_at.is_null().and(jobs::next_attempt_at.le(lately.until)).and(jobs::id.lt(&job.id));
    // The index by the person fits all three, however many mails a tenant has.
    let of_tenant = jobs::tenant_id.eq(&job.tenant_id).or((beside != Beside::OfTenant).into_sql::<Bool>());
    let of_kind = jobs::template.eq(job.template).or((beside != Beside::OfKind).into_sql::<Bool>());
    let sent = jobs::table
        .filter(jobs::id.gt(MailJobId::first_at(lately.after)))
        .filter(lies_in!(jobs::created_at, lately))
        .filter(jobs::id.ne(&job.id))
        .filter(jobs::attempts.gt(0).or(stands_before))
        .filter(of_tenant.and(of_kind))
        .order(jobs::id.asc())
        .offset(limit - 1)
        .select(jobs::id);
    let last: Option<MailJobId> = match &job.recipient {
        Some(address) => sent.filter(is_to!(address)).first(conn).optional()?,
        None => sent
            .filter(jobs::consultant_id.eq(&job.consultant_id).and(jobs::recipient.is_null()))
            .filter(jobs::template.ne_all(OPENING))
            .first(conn)
            .optional()?,
    };
    Ok(last.is_some())
}

/// Keys and times of the mails of a template to an address that were queued lately, newest first.
pub(in crate::mail) fn mails_to(
    conn: &mut Conn,
    template: Template,
    address: &str,
    lately: Stretch,
    limit: i64,
) -> QueryResult<Vec<(String, Timestamp)>> {
    jobs::table
        .filter(is_to!(address))
        .filter(jobs::id.gt(MailJobId::first_at(lately.after)))
        .filter(lies_in!(jobs::created_at, lately))
        .filter(jobs::template.eq(template))
        .order(jobs::id.desc())
        .limit(limit)
        .select((jobs::dedup_key, jobs::created_at))
        .load(conn)
}

/// Which of some mails of a template were queued, by their keys.
pub(in crate::mail) fn queued_with(conn: &mut Conn, template: Template, keys: &[String]) -> QueryResult<Vec<String>> {
    jobs::table.filter(jobs::template.eq(template).and(jobs::dedup_key.eq_any(keys))).select(jobs::dedup_key).load(conn)
}

/// A mail about a tenant, as it was queued.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = jobs)]
pub(in crate::mail) struct ToContact {
    pub dedup_key: String,
    pub recipient: Option<String>,
    pub created_at: Timestamp,
}

/// Mails of a template for a tenant lately, the oldest first.
pub(in crate::mail) fn of_tenant(
    conn: &mut Conn,
    template: Template,
    tenant_id: &str,
    lately: Stretch,
    limit: i64,
) -> QueryResult<Vec<ToContact>> {
    jobs::table
        .filter(jobs::tenant_id.eq(tenant_id))
        .filter(jobs::id.gt(MailJobId::first_at(lately.after)))
        .filter(lies_in!(jobs::created_at, lately))
        .filter(jobs::template.eq(template))
        .order(jobs::id.asc())
        .limit(limit)
        .select(ToContact::as_select())
        .load(conn)
}

/// Number of links mailed lately for all tenants that were never registered.
pub(in crate::mail) fn links_mailed_to_unregistered(conn: &mut Conn, lately: Stretch) -> QueryResult<i64> {
    jobs::table
        .filter(jobs::id.gt(MailJobId::first_at(lately.after)))
        .filter(lies_in!(jobs::created_at, lately))
        .filter(jobs::template.eq(Template::MagicLink))
        .filter(not(exists(tenants::table.filter(tenants::id.eq(jobs::tenant_id)))))
        .count()
        .get_result(conn)
}

/// Number of links mailed for a tenant lately.
pub(in crate::mail) fn links_mailed(conn: &mut Conn, tenant_id: &str, lately: Stretch) -> QueryResult<i64> {
    jobs::table
        .filter(jobs::tenant_id.eq(tenant_id))
        .filter(jobs::id.gt(MailJobId::first_at(lately.after)))
        .filter(lies_in!(jobs::created_at, lately))
        .filter(jobs::template.eq(Template::MagicLink))
        .count()
        .get_result(conn)
}
