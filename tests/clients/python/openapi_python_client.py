"""The life of a link with the client of openapi-python-client."""
import datetime, uuid
from magic_link_client import AuthenticatedClient, models
from magic_link_client.api.audit import get_checkpoint, get_evidence, list_audit_events
from magic_link_client.api.consultants import register_consultant
from magic_link_client.api.landing_page import continue_link, preview_link
from magic_link_client.api.magic_links import create_revocation, get_magic_link, issue_magic_link, list_magic_links, revoke_magic_link
from magic_link_client.api.sessions import end_session, introspect_token, open_session, report_events
from magic_link_client.types import UNSET, Unset
from steps import BASE, KEY, code_of, done, mailed_token, step

client = AuthenticatedClient(base_url=BASE, token=KEY)
idempotency_key = str(uuid.uuid4())


def grant(ticket, number, reason="Payroll run for November stops at step 3"):
    return models.IssueLink(
        tenant_id="acme", portal="cloud", consultant_id=consultant.id, ticket=ticket, access=models.Access.FULL, reason=reason,
        duration=models.WindowLength(value=4, unit=models.DurationUnit.HOURS),
        profile=models.Profile(id=f"emp-{number}", name="Asha Rao"), issued_by=models.Issuer(id="emp-7", name="Meera Iyer"))


@step("register a consultant")
def _():
    global consultant
    person = models.RegisterConsultant(name="Ravi Kumar", email=f"ravi-{uuid.uuid4()}@support.example")
    consultant = register_consultant.sync(client=client, body=person)
    return consultant.state == models.ConsultantState.ACTIVE


@step("issue a link")
def _():
    global link
    link = issue_magic_link.sync(client=client, body=grant("SUP-1", 1042), idempotency_key=idempotency_key)
    return link.state == models.LinkState.ACTIVE


@step("issue it again with its key")
def _():
    return issue_magic_link.sync(client=client, body=grant("SUP-1", 1042), idempotency_key=idempotency_key).id == link.id


@step("read the link")
def _():
    read = get_magic_link.sync(link.id, client=client)
    return read.profile.name == "Asha Rao" and read.expires_at > datetime.datetime.now(datetime.timezone.utc)


@step("list with a filter, page by page")
def _():
    for number in range(3):
        issue_magic_link.sync(client=client, body=grant("SUP-2", number))
    cursor, seen, pages = UNSET, 0, 0
    while not pages or not isinstance(cursor, Unset):
        page = list_magic_links.sync(client=client, tenant_id="acme", state="active", ticket="SUP-2", page_size=2, cursor=cursor)
        seen, pages, cursor = seen + len(page.items), pages + 1, page.next_cursor
    return (seen, pages) == (3, 2)


@step("preview the landing page")
def _():
    global token
    token = mailed_token(link.id)
    return preview_link.sync(client=client, body=models.LandingRequest(token)).state == models.LandingState.READY


@step("continue to the portal")
def _():
    global code
    code = code_of(continue_link.sync(client=client, body=models.LandingRequest(token)).redirect_url)
    return code


@step("redeem the code")
def _():
    global session
    session = open_session.sync(client=client, body=models.OpenSession(token=code, visitor=models.Visitor(address="203.0.113.7")))
    return session.access_token


@step("introspect, as a form")
def _():
    found = introspect_token.sync(client=client, body=models.IntrospectionRequest(token=session.access_token))
    return found.active and found.sid == session.id and found.act.sub == consultant.id


@step("report events")
def _():
    change = models.Change(field="basic", before="50000", after="52000")
    event = models.ActivityEvent(
        seq=1, kind=models.ActivityKind.CHANGE, occurred_at=datetime.datetime.now(datetime.timezone.utc), changes=[change],
        action="employee.salary.updated", resource_type="employee", resource_id="emp-9")
    return report_events.sync(session.id, client=client, body=models.ReportEvents([event])).recorded == 1


@step("end the session")
def _():
    sources = models.EndSessionSourcesType0.from_dict({"portal": 1})
    ended = end_session.sync(session.id, client=client, body=models.EndSession(sources=sources))
    return ended.state == models.SessionState.ENDED and ended.audit_state == models.AuditState.COMPLETE


@step("introspect after the end")
def _():
    return introspect_token.sync(client=client, body=models.IntrospectionRequest(token=session.access_token)).active is False


@step("revoke the link")
def _():
    request = models.RevokeLink(reason="The work is done", requested_by=models.Person(id="emp-7", name="Meera Iyer"))
    return revoke_magic_link.sync(link.id, client=client, body=request).state == models.LinkState.REVOKED


@step("revoke by ticket")
def _():
    order = models.CreateRevocation(tenant_id="acme", ticket="SUP-2", reason="The ticket was closed")
    return create_revocation.sync(client=client, body=order).links == 3


@step("read the audit log")
def _():
    events = list_audit_events.sync(client=client, magic_link_id=link.id, page_size=200).items
    return any(event.type_ == models.EventType.MAGIC_LINK_REVOKED for event in events)


@step("read evidence")
def _():
    return get_evidence.sync(link.id, client=client).evidence.additional_properties


@step("read a checkpoint")
def _():
    return b"/audit/acme" in get_checkpoint.sync("acme", client=client).payload.read()


@step("read the code of a refusal")
def _():
    return get_magic_link.sync("mlk_" + "0" * 26, client=client).code == models.ProblemCode.NOT_FOUND


@step("read which field is wrong")
def _():
    refused = issue_magic_link.sync(client=client, body=grant("SUP-3", 4, reason="short"))
    return refused.code == models.ProblemCode.VALIDATION_FAILED and refused.errors[0].pointer == "/reason"


done()
