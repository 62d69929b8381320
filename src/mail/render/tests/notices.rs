//! Notices about a link, with harmless and hostile input.

use super::*;

pub(super) const NOTICES: [Template; 20] = [
    Template::AccessIssued,
    Template::AccessUsed,
    Template::AccessEnded,
    Template::LinkResent,
    Template::AccessRevoked,
    Template::AccessWithdrawn,
    Template::AccessChanged,
    Template::AccessMoved,
    Template::OwnerAccessUsed,
    Template::OwnerAccessEnded,
    Template::LinkBounced,
    Template::AccessEndsSoon,
    Template::AccessRunsOut,
    Template::AccessAnnounced,
    Template::AccessVisits,
    Template::OwnerAccessVisits,
    Template::ApprovalRequested,
    Template::RequestDenied,
    Template::ExtensionRequested,
    Template::ExtensionDenied,
];

#[test]
#[expect(clippy::too_many_lines, reason = "sixteen whole mails are long")]
fn every_notice_says_who_where_why_and_until_when() {
    let all: Vec<String> = NOTICES
        .iter()
        .take(16)
        .map(|template| {
            let email = notice_of(*template, "Asha & Söhne");
            format!("== {template}: {}\n{}", email.subject, email.text)
        })
        .collect();
    insta::assert_snapshot!(all.join("\n"), @r#"
    == access_issued: Support access granted to Asha & Söhne (Cloud)
    Support access granted to Asha & Söhne (Cloud)

    Hello Asha & Söhne,

    Temporary support access was granted in your name. The link was mailed
    to the consultant alone; it opens nothing before a person continues on
    its page.

    Support consultant: Asha & Söhne
    Access to: the Cloud portal of Asha & Söhne, as Asha & Söhne
    Granted by: Asha & Söhne
    Why: Asha & Söhne (Asha & Söhne)
    Access level: Full: look and change
    Valid until: Mon, 23 Nov 2026, 6:30 pm IST (UTC+05:30) (23 Nov 2026, 13:00 UTC)

    You will hear again when the access is used and when it ends.
    It ends by itself; you can end it at any time in the portal.

    See it in the portal, which asks you to sign in: https://cloud.example/acme/support

    Not expecting this? Report it to security@support.example, with the reference below.

    This mail holds no access link, on purpose.
    Reference mlk_01kaq3v9e8fwmvd2x7n0c5hb1z
    Sent automatically by Magic Link.
    == access_used: Support access used by Asha & Söhne (Cloud)
    Support access used by Asha & Söhne (Cloud)

    Hello Asha & Söhne,

    The support access that you granted was used for the first time.

    Support consultant: Asha & Söhne
    Access to: the Cloud portal of Asha & Söhne, as Asha & Söhne
    Granted by: Asha & Söhne
    Why: Asha & Söhne (Asha & Söhne)
    Access level: Full: look and change
    First used: Mon, 23 Nov 2026, 9:00 am IST (UTC+05:30) (23 Nov 2026, 03:30 UTC)
    Valid until: Mon, 23 Nov 2026, 6:30 pm IST (UTC+05:30) (23 Nov 2026, 13:00 UTC)

    Everything the consultant does is recorded under their name. You can end
    the access at any time in the portal.

    See it in the portal, which asks you to sign in: https://cloud.example/acme/support

    Not expecting this? Report it to security@support.example, with the reference below.

    This mail holds no access link, on purpose.
    Reference mlk_01kaq3v9e8fwmvd2x7n0c5hb1z
    Sent automatically by Magic Link.
    == access_ended: The support visit by Asha & Söhne has ended (Cloud)
    The support visit by Asha & Söhne has ended (Cloud)

    Hello Asha & Söhne,

    A visit with the support access that you granted has ended.

    Support consultant: Asha & Söhne
    Access to: the Cloud portal of Asha & Söhne, as Asha & Söhne
    Granted by: Asha & Söhne
    Why: Asha & Söhne (Asha & Söhne)
    Access level: Full: look and change
    Opened: Mon, 23 Nov 2026, 9:00 am IST (UTC+05:30)
    Ended: Mon, 23 Nov 2026, 6:30 pm IST (UTC+05:30), by the consultant
    What was done: changes: 2, exports: 1, views: 3
    Record: has gaps: not every act has been reported
    Was granted until: Mon, 23 Nov 2026, 6:30 pm IST (UTC+05:30) (23 Nov 2026, 13:00 UTC)

    What was done stands in the record of the portal, entry by entry.

    See it in the portal, which asks you to sign in: https://cloud.example/acme/support

    Not expecting this? Report it to security@support.example, with the reference below.

    This mail holds no access link, on purpose.
    Reference mlk_01kaq3v9e8fwmvd2x7n0c5hb1z
    Sent automatically by Magic Link.
    == link_resent: A fresh access link was sent to Asha & Söhne (Cloud)
    A fresh access link was sent to Asha & Söhne (Cloud)

    Hello Asha & Söhne,

    A fresh link for the support access that you granted was sent to the
    consultant's registered address. The links before it no longer work.

    Support consultant: Asha & Söhne
    Access to: the Cloud portal of Asha & Söhne, as Asha & Söhne
    Granted by: Asha & Söhne
    Why: Asha & Söhne (Asha & Söhne)
    Access level: Full: look and change
    Asked for: Mon, 23 Nov 2026, 9:00 am IST (UTC+05:30) (23 Nov 2026, 03:30 UTC)
    Valid until: Mon, 23 Nov 2026, 6:30 pm IST (UTC+05:30) (23 Nov 2026, 13:00 UTC)

    If nobody should have needed one, end the access in the portal.

    See it in the portal, which asks you to sign in: https://cloud.example/acme/support

    Not expecting this? Report it to security@support.example, with the reference below.

    This mail holds no access link, on purpose.
    Reference mlk_01kaq3v9e8fwmvd2x7n0c5hb1z
    Sent automatically by Magic Link.
    == access_revoked: Support access of Asha & Söhne was revoked (Cloud)
    Support access of Asha & Söhne was revoked (Cloud)

    Hello Asha & Söhne,

    This support access was revoked before its time was over. Its link opens
    nothing any more, and a visit that was open has ended.

    Support consultant: Asha & Söhne
    Access to: the Cloud portal of Asha & Söhne, as Asha & Söhne
    Granted by: Asha & Söhne
    Why: Asha & Söhne (Asha & Söhne)
    Access level: Full: look and change
    Revoked by: Asha & Söhne
    Because: Asha & Söhne
    Revoked: Mon, 23 Nov 2026, 9:00 am IST (UTC+05:30) (23 Nov 2026, 03:30 UTC)
    Was granted until: Mon, 23 Nov 2026, 6:30 pm IST (UTC+05:30) (23 Nov 2026, 13:00 UTC)

    If there is more to do, access can be granted again.

    See it in the portal, which asks you to sign in: https://cloud.example/acme/support

    Not expecting this? Report it to security@support.example, with the reference below.

    This mail holds no access link, on purpose.
    Reference mlk_01kaq3v9e8fwmvd2x7n0c5hb1z
    Sent automatically by Magic Link.
    == access_withdrawn: Your access to Asha & Söhne (Cloud) was revoked
    Your access to Asha & Söhne (Cloud) was revoked

    Hello Asha & Söhne,

    This access of yours was revoked before its time was over. Its link opens
    nothing any more, and a visit that was open has ended. Other accesses
    that you have are not concerned.

    Support consultant: Asha & Söhne
    Access to: the Cloud portal of Asha & Söhne, as Asha & Söhne
    Granted by: Asha & Söhne
    Why: Asha & Söhne (Asha & Söhne)
    Access level: Full: look and change
    Revoked by: Asha & Söhne
    Because: Asha & Söhne
    Revoked: Mon, 23 Nov 2026, 9:00 am IST (UTC+05:30) (23 Nov 2026, 03:30 UTC)
    Was granted until: Mon, 23 Nov 2026, 6:30 pm IST (UTC+05:30) (23 Nov 2026, 13:00 UTC)

    If there is more to do, ask whoever granted it.

    Not expecting this? Report it to security@support.example, with the reference below.

    This mail holds no access link, on purpose.
    Reference mlk_01kaq3v9e8fwmvd2x7n0c5hb1z
    Sent automatically by Magic Link.
    == access_changed: Support access of Asha & Söhne ends at another time (Cloud)
    Support access of Asha & Söhne ends at another time (Cloud)

    Hello Asha & Söhne,

    The support access that you granted ends at another time than before.

    Support consultant: Asha & Söhne
    Access to: the Cloud portal of Asha & Söhne, as Asha & Söhne
    Granted by: Asha & Söhne
    Why: Asha & Söhne (Asha & Söhne)
    Access level: Full: look and change
    Changed by: Asha & Söhne
    Because: Asha & Söhne
    Was valid until: Mon, 23 Nov 2026, 2:30 pm IST (UTC+05:30)
    Valid until: Mon, 23 Nov 2026, 6:30 pm IST (UTC+05:30) (23 Nov 2026, 13:00 UTC)

    It ends by itself; you can end it at any time in the portal.

    See it in the portal, which asks you to sign in: https://cloud.example/acme/support

    Not expecting this? Report it to security@support.example, with the reference below.

    This mail holds no access link, on purpose.
    Reference mlk_01kaq3v9e8fwmvd2x7n0c5hb1z
    Sent automatically by Magic Link.
    == access_moved: Your access to Asha & Söhne (Cloud) ends at another time
    Your access to Asha & Söhne (Cloud) ends at another time

    Hello Asha & Söhne,

    Your access ends at another time than before. A visit that is open ends
    with it at the latest.

    Support consultant: Asha & Söhne
    Access to: the Cloud portal of Asha & Söhne, as Asha & Söhne
    Granted by: Asha & Söhne
    Why: Asha & Söhne (Asha & Söhne)
    Access level: Full: look and change
    Changed by: Asha & Söhne
    Because: Asha & Söhne
    Was valid until: Mon, 23 Nov 2026, 2:30 pm IST (UTC+05:30)
    Valid until: Mon, 23 Nov 2026, 6:30 pm IST (UTC+05:30) (23 Nov 2026, 13:00 UTC)

    If the link in your mail is too old, its page mails you a fresh one.

    Not expecting this? Report it to security@support.example, with the reference below.

    This mail holds no access link, on purpose.
    Reference mlk_01kaq3v9e8fwmvd2x7n0c5hb1z
    Sent automatically by Magic Link.
    == owner_access_used: Support opened Cloud of Asha & Söhne as you
    Support opened Cloud of Asha & Söhne as you

    Hello Asha & Söhne,

    A support consultant has opened the portal as you. Your company granted
    this for the reason below; it ends by itself, and nobody was given your
    password.

    Support consultant: Asha & Söhne
    Access to: the Cloud portal of Asha & Söhne, as Asha & Söhne
    Granted by: Asha & Söhne
    Why: Asha & Söhne (Asha & Söhne)
    Access level: Full: look and change
    First used: Mon, 23 Nov 2026, 9:00 am IST (UTC+05:30) (23 Nov 2026, 03:30 UTC)
    Valid until: Mon, 23 Nov 2026, 6:30 pm IST (UTC+05:30) (23 Nov 2026, 13:00 UTC)

    Everything done during this access is recorded under the consultant's
    name, beside yours. You will hear again when it ends.

    Not expecting this? Report it to security@support.example, with the reference below.

    This mail holds no access link, on purpose.
    Reference mlk_01kaq3v9e8fwmvd2x7n0c5hb1z
    Sent automatically by Magic Link.
    == owner_access_ended: The support visit to Cloud of Asha & Söhne as you has ended
    The support visit to Cloud of Asha & Söhne as you has ended

    Hello Asha & Söhne,

    A support consultant's visit to the portal as you has ended.

    Support consultant: Asha & Söhne
    Access to: the Cloud portal of Asha & Söhne, as Asha & Söhne
    Granted by: Asha & Söhne
    Why: Asha & Söhne (Asha & Söhne)
    Access level: Full: look and change
    Opened: Mon, 23 Nov 2026, 9:00 am IST (UTC+05:30)
    Ended: Mon, 23 Nov 2026, 6:30 pm IST (UTC+05:30), by the consultant
    What was done: changes: 2, exports: 1, views: 3
    Record: has gaps: not every act has been reported
    Was granted until: Mon, 23 Nov 2026, 6:30 pm IST (UTC+05:30) (23 Nov 2026, 13:00 UTC)

    What was done stands in the record of the portal. Ask the person who
    granted the access if something looks wrong to you.

    Not expecting this? Report it to security@support.example, with the reference below.

    This mail holds no access link, on purpose.
    Reference mlk_01kaq3v9e8fwmvd2x7n0c5hb1z
    Sent automatically by Magic Link.
    == link_bounced: The access link for Asha & Söhne could not be delivered
    The access link for Asha & Söhne could not be delivered

    Hello Asha & Söhne,

    A mail with the access link could not be delivered.

    Support consultant: Asha & Söhne
    Access to: the Cloud portal of Asha & Söhne, as Asha & Söhne
    Granted by: Asha & Söhne
    Why: Asha & Söhne (Asha & Söhne)
    Access level: Full: look and change
    What came back: Asha & Söhne
    Valid until: Mon, 23 Nov 2026, 6:30 pm IST (UTC+05:30) (23 Nov 2026, 13:00 UTC)

    The consultant has no access from it. Tell your support contact, who can see why: it can be sent again.

    See it in the portal, which asks you to sign in: https://cloud.example/acme/support

    Not expecting this? Report it to security@support.example, with the reference below.

    This mail holds no access link, on purpose.
    Reference mlk_01kaq3v9e8fwmvd2x7n0c5hb1z
    Sent automatically by Magic Link.
    == access_ends_soon: Support access of Asha & Söhne ends soon (Cloud)
    Support access of Asha & Söhne ends soon (Cloud)

    Hello Asha & Söhne,

    The support access that you granted ends soon.

    Support consultant: Asha & Söhne
    Access to: the Cloud portal of Asha & Söhne, as Asha & Söhne
    Granted by: Asha & Söhne
    Why: Asha & Söhne (Asha & Söhne)
    Access level: Full: look and change
    Valid until: Mon, 23 Nov 2026, 6:30 pm IST (UTC+05:30) (23 Nov 2026, 13:00 UTC)

    It ends by itself. If there is more to do, extend it in the portal
    before it has ended.

    See it in the portal, which asks you to sign in: https://cloud.example/acme/support

    Not expecting this? Report it to security@support.example, with the reference below.

    This mail holds no access link, on purpose.
    Reference mlk_01kaq3v9e8fwmvd2x7n0c5hb1z
    Sent automatically by Magic Link.
    == access_runs_out: Your access to Asha & Söhne (Cloud) ends soon
    Your access to Asha & Söhne (Cloud) ends soon

    Hello Asha & Söhne,

    Your access ends soon, and a visit that is open ends with it.

    Support consultant: Asha & Söhne
    Access to: the Cloud portal of Asha & Söhne, as Asha & Söhne
    Granted by: Asha & Söhne
    Why: Asha & Söhne (Asha & Söhne)
    Access level: Full: look and change
    Valid until: Mon, 23 Nov 2026, 6:30 pm IST (UTC+05:30) (23 Nov 2026, 13:00 UTC)

    If you need more time, ask whoever granted it before it has ended.

    Not expecting this? Report it to security@support.example, with the reference below.

    This mail holds no access link, on purpose.
    Reference mlk_01kaq3v9e8fwmvd2x7n0c5hb1z
    Sent automatically by Magic Link.
    == access_announced: You will get access to Asha & Söhne (Cloud)
    You will get access to Asha & Söhne (Cloud)

    Hello Asha & Söhne,

    You will get temporary access. The link comes with another mail when the
    access opens.

    Support consultant: Asha & Söhne
    Access to: the Cloud portal of Asha & Söhne, as Asha & Söhne
    Granted by: Asha & Söhne
    Why: Asha & Söhne (Asha & Söhne)
    Access level: Full: look and change
    Opens: Mon, 23 Nov 2026, 9:00 am IST (UTC+05:30) (23 Nov 2026, 03:30 UTC)
    Valid until: Mon, 23 Nov 2026, 6:30 pm IST (UTC+05:30) (23 Nov 2026, 13:00 UTC)

    There is nothing to do until then.

    Not expecting this? Report it to security@support.example, with the reference below.

    This mail holds no access link, on purpose.
    Reference mlk_01kaq3v9e8fwmvd2x7n0c5hb1z
    Sent automatically by Magic Link.
    == access_visits: The support visits of a day by Asha & Söhne (Cloud)
    The support visits of a day by Asha & Söhne (Cloud)

    Hello Asha & Söhne,

    These visits with the support access that you granted ended on the same
    day.

    Support consultant: Asha & Söhne
    Access to: the Cloud portal of Asha & Söhne, as Asha & Söhne
    Granted by: Asha & Söhne
    Why: Asha & Söhne (Asha & Söhne)
    Access level: Full: look and change
    Opened: Mon, 23 Nov 2026, 9:00 am IST (UTC+05:30)
    Ended: Mon, 23 Nov 2026, 6:30 pm IST (UTC+05:30), by the consultant
    What was done: changes: 2, exports: 1, views: 3
    Record: has gaps: not every act has been reported
    Was granted until: Mon, 23 Nov 2026, 6:30 pm IST (UTC+05:30) (23 Nov 2026, 13:00 UTC)

    What was done stands in the record of the portal, entry by entry.

    See it in the portal, which asks you to sign in: https://cloud.example/acme/support

    Not expecting this? Report it to security@support.example, with the reference below.

    This mail holds no access link, on purpose.
    Reference mlk_01kaq3v9e8fwmvd2x7n0c5hb1z
    Sent automatically by Magic Link.
    == owner_access_visits: The support visits of a day to Cloud of Asha & Söhne as you
    The support visits of a day to Cloud of Asha & Söhne as you

    Hello Asha & Söhne,

    These visits of a support consultant to the portal as you ended on the
    same day.

    Support consultant: Asha & Söhne
    Access to: the Cloud portal of Asha & Söhne, as Asha & Söhne
    Granted by: Asha & Söhne
    Why: Asha & Söhne (Asha & Söhne)
    Access level: Full: look and change
    Opened: Mon, 23 Nov 2026, 9:00 am IST (UTC+05:30)
    Ended: Mon, 23 Nov 2026, 6:30 pm IST (UTC+05:30), by the consultant
    What was done: changes: 2, exports: 1, views: 3
    Record: has gaps: not every act has been reported
    Was granted until: Mon, 23 Nov 2026, 6:30 pm IST (UTC+05:30) (23 Nov 2026, 13:00 UTC)

    What was done stands in the record of the portal. Ask the person who
    granted the access if something looks wrong to you.

    Not expecting this? Report it to security@support.example, with the reference below.

    This mail holds no access link, on purpose.
    Reference mlk_01kaq3v9e8fwmvd2x7n0c5hb1z
    Sent automatically by Magic Link.
    "#);
}
