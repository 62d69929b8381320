"""The life of a link with the client of openapi-generator (`python`)."""
import datetime, uuid
import openapi_client as api
from steps import BASE, KEY, code_of, done, mailed_token, step

client = api.ApiClient(api.Configuration(host=BASE, access_token=KEY))
links, sessions, landing, audit = api.MagicLinksApi(client), api.SessionsApi(client), api.LandingPageApi(client), api.AuditApi(client)
idempotency_key = str(uuid.uuid4())


def grant(ticket, number):
    return api.IssueLink(
        tenant_id="acme", portal="cloud", consultant_id=consultant.id, ticket=ticket, access=api.Access.FULL,
        reason="Payroll run for November stops at step 3", duration=api.WindowLength(value=4, unit=api.DurationUnit.HOURS),
        profile=api.Profile(id=f"emp-{number}", name="Asha Rao"), issued_by=api.Issuer(id="emp-7", name="Meera Iyer"))


@step("register a consultant")
def _():
    global consultant
    person = api.RegisterConsultant(name="Ravi Kumar", email=f"ravi-{uuid.uuid4()}@support.example")
    consultant = api.ConsultantsApi(client).register_consultant(person)
    return consultant.state == api.ConsultantState.ACTIVE


@step("issue a link")
def _():
    global link
    link = links.issue_magic_link(grant("SUP-1", 1042), idempotency_key=idempotency_key)
    return link.state == api.LinkState.ACTIVE


@step("issue it again with its key")
def _():
    return links.issue_magic_link(grant("SUP-1", 1042), idempotency_key=idempotency_key).id == link.id


@step("read the link")
def _():
    read = links.get_magic_link(link.id)
    return read.profile.name == "Asha Rao" and read.expires_at > datetime.datetime.now(datetime.timezone.utc)


@step("list with a filter, page by page")
def _():
    for number in range(3):
        links.issue_magic_link(grant("SUP-2", number))
    cursor, seen, pages = None, 0, 0
    while not pages or cursor:
        page = links.list_magic_links(tenant_id="acme", state="active", ticket="SUP-2", page_size=2, cursor=cursor)
        seen, pages, cursor = seen + len(page.items), pages + 1, page.next_cursor
    return (seen, pages) == (3, 2)


@step("preview the landing page")
def _():
    global token
    token = mailed_token(link.id)
    return landing.preview_link(api.LandingRequest(token=token)).state == api.LandingState.READY


@step("continue to the portal")
def _():
    global code
    code = code_of(landing.continue_link(api.LandingRequest(token=token)).redirect_url)
    return code


@step("redeem the code")
def _():
    global session
    session = sessions.open_session(api.OpenSession(token=code, visitor=api.Visitor(address="203.0.113.7")))
    return session.access_token


@step("introspect, as a form")
def _():
    found = sessions.introspect_token(session.access_token)
    return found.active and found.sid == session.id and found.act.sub == consultant.id


@step("report events")
def _():
    change = api.Change(field="basic", before="50000", after="52000")
    event = api.ActivityEvent(
        seq=1, kind=api.ActivityKind.CHANGE, occurred_at=datetime.datetime.now(datetime.timezone.utc), changes=[change],
        action="employee.salary.updated", resource_type="employee", resource_id="emp-9")
    return sessions.report_events(session.id, api.ReportEvents(events=[event])).recorded == 1


@step("end the session")
def _():
    ended = sessions.end_session(session.id, api.EndSession(sources={"portal": 1}))
    return ended.state == api.SessionState.ENDED and ended.audit_state == api.AuditState.COMPLETE


@step("introspect after the end")
def _():
    return sessions.introspect_token(session.access_token).active is False


@step("revoke the link")
def _():
    request = api.RevokeLink(reason="The work is done", requested_by=api.Person(id="emp-7", name="Meera Iyer"))
    return links.revoke_magic_link(link.id, request).state == api.LinkState.REVOKED


@step("revoke by ticket")
def _():
    return links.create_revocation(api.CreateRevocation(tenant_id="acme", ticket="SUP-2", reason="The ticket was closed")).links == 3


@step("read the audit log")
def _():
    events = audit.list_audit_events(magic_link_id=link.id, page_size=200).items
    return any(event.type == "magic_link.revoked" for event in events)


@step("read evidence")
def _():
    return audit.get_evidence(link.id).evidence


@step("read a checkpoint")
def _():
    return b"/audit/acme" in audit.get_checkpoint("acme")


@step("read the code of a refusal")
def _():
    try:
        links.get_magic_link("mlk_" + "0" * 26)
    except api.ApiException as refused:
        return refused.data.code == api.ProblemCode.NOT_FOUND


@step("read which field is wrong")
def _():
    # Its models refuse what is too short before anything is sent, but for a copy.
    try:
        links.issue_magic_link(grant("SUP-3", 4).model_copy(update={"reason": "short"}))
    except api.ApiException as refused:
        return refused.data.code == api.ProblemCode.VALIDATION_FAILED and refused.data.errors[0].pointer == "/reason"


done()
