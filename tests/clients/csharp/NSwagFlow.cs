// The life of a link with the client of NSwag: one file for version 14 and for version 13.
using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Net.Http;
using System.Threading.Tasks;
using MagicLink;
using static Steps;

public static class NSwagFlow
{
    static Client api = null!;
    static ConsultantResponse consultant = null!;
    static LinkResponse link = null!;
    static OpenedSession session = null!;

    static IssueLink Grant(string ticket, int number) => new()
    {
        Tenant_id = "acme", Portal = "cloud", Consultant_id = consultant.Id, Ticket = ticket, Access = Access.Full,
        Reason = "Payroll run for November stops at step 3", Duration = new WindowLength { Value = 4, Unit = DurationUnit.Hours },
        Profile = new Profile { Id = $"emp-{number}", Name = "Asha Rao" }, Issued_by = new Issuer { Id = "emp-7", Name = "Meera Iyer" },
    };

    static Task<Page_LinkResponse> Page(string? cursor) =>
        api.ListMagicLinksAsync("acme", null, null, null, "active", "SUP-2", null, null, null, null, null, null, null, null, null, 2, cursor);

    static Task<Introspection> Introspect() => api.IntrospectTokenAsync(new IntrospectionRequest { Token = session.Access_token });

    public static async Task<int> Main()
    {
        var http = new HttpClient { BaseAddress = new Uri(Base) };
        http.DefaultRequestHeaders.Add("Authorization", $"Bearer {Key}");
        api = new Client(http);
        string key = Guid.NewGuid().ToString(), token = "", code = "";

        await Step("register a consultant", async () =>
        {
            consultant = await api.RegisterConsultantAsync(null, new RegisterConsultant { Name = "Ravi Kumar", Email = $"ravi-{Guid.NewGuid()}@support.example" });
            return consultant.State == ConsultantState.Active;
        });
        await Step("issue a link", async () =>
        {
            link = await api.IssueMagicLinkAsync(key, Grant("SUP-1", 1042));
            return link.State == LinkState.Active;
        });
        await Step("issue it again with its key", async () => (await api.IssueMagicLinkAsync(key, Grant("SUP-1", 1042))).Id == link.Id);
        await Step("read the link", async () =>
        {
            var read = await api.GetMagicLinkAsync(link.Id);
            return read.Profile.Name == "Asha Rao" && read.Expires_at > DateTimeOffset.UtcNow;
        });
        await Step("list with a filter, page by page", async () =>
        {
            for (var number = 1; number <= 3; number++)
                await api.IssueMagicLinkAsync(null, Grant("SUP-2", number));
            var first = await Page(null);
            var second = await Page(first.Next_cursor);
            return first.Items.Count == 2 && second.Items.Count == 1 && second.Next_cursor is null;
        });
        await Step("preview the landing page", async () =>
        {
            token = await MailedToken(link.Id);
            return (await api.PreviewLinkAsync(new LandingRequest { Token = token })).State == LandingState.Ready;
        });
        await Step("continue to the portal", async () =>
        {
            code = CodeOf((await api.ContinueLinkAsync(new LandingRequest { Token = token })).Redirect_url);
            return code.Length > 0;
        });
        await Step("redeem the code", async () =>
        {
            session = await api.OpenSessionAsync(null, new OpenSession { Token = code, Visitor = new Visitor { Address = "203.0.113.7" } });
            return session.Access_token.Length > 0;
        });
        await Step("introspect, as a form", async () =>
        {
            var found = await Introspect();
            return found.Active && found.Sid == session.Id && found.Act.Sub == consultant.Id;
        });
        await Step("report events", async () =>
        {
            var act = new ActivityEvent
            {
                Seq = 1, Kind = ActivityKind.Change, Occurred_at = DateTimeOffset.UtcNow, Action = "employee.salary.updated",
                Resource_type = "employee", Resource_id = "emp-9", Changes = [new Change { Field = "basic", Before = "50000", After = "52000" }],
            };
            return (await api.ReportEventsAsync(session.Id, new ReportEvents { Events = [act] })).Recorded == 1;
        });
        await Step("end the session", async () =>
        {
            var ended = await api.EndSessionAsync(session.Id, new EndSession { Sources = new Dictionary<string, long> { ["portal"] = 1 } });
            return ended.State == SessionState.Ended && ended.Audit_state == AuditState.Complete;
        });
        await Step("introspect after the end", async () => !(await Introspect()).Active);
        await Step("revoke the link", async () =>
        {
            var request = new RevokeLink { Reason = "The work is done", Requested_by = new Person { Id = "emp-7", Name = "Meera Iyer" } };
            return (await api.RevokeMagicLinkAsync(link.Id, request)).State == LinkState.Revoked;
        });
        await Step("revoke by ticket", async () =>
            (await api.CreateRevocationAsync(null, new CreateRevocation { Tenant_id = "acme", Ticket = "SUP-2", Reason = "The ticket was closed" })).Links == 3);
        await Step("read the audit log", async () =>
        {
            var events = await api.ListAuditEventsAsync(null, null, link.Id, null, null, null, null, null, null, null, null, null, null, null, 200, null);
            return events.Items.Any(one => one.Type == EventType.Magic_link_revoked);
        });
        await Step("read evidence", async () => (await api.GetEvidenceAsync(link.Id)).Evidence is not null);
        await Step("read a checkpoint", async () =>
        {
            using var note = await api.GetCheckpointAsync("acme");
            return (await new StreamReader(note.Stream).ReadToEndAsync()).Contains("/audit/acme");
        });
        await Step("read the code of a refusal", async () =>
        {
            try
            {
                await api.GetMagicLinkAsync("mlk_00000000000000000000000000");
                return false;
            }
            catch (ApiException<Problem> refused)
            {
                return refused.Result.Code == ProblemCode.Not_found;
            }
        });
        await Step("read which field is wrong", async () =>
        {
            var wrong = Grant("SUP-3", 4);
            wrong.Reason = "short";
            try
            {
                await api.IssueMagicLinkAsync(null, wrong);
                return false;
            }
            catch (ApiException<Problem> refused)
            {
                return refused.Result.Code == ProblemCode.Validation_failed && refused.Result.Errors.First().Pointer == "/reason";
            }
        });
        return Failed;
    }
}
