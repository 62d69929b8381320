// The life of a link with the client of openapi-generator (`csharp`, library generichost).
using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading.Tasks;
using MagicLink.Api;
using MagicLink.Client;
using MagicLink.Extensions;
using MagicLink.Model;
using Microsoft.Extensions.DependencyInjection;
using static Steps;

public static class GenericHostFlow
{
    static ConsultantResponse consultant = null!;
    static LinkResponse link = null!;
    static OpenedSession session = null!;

    static IssueLink Grant(string ticket, int number, string reason = "Payroll run for November stops at step 3") => new(
        consultant.Id, new Issuer("emp-7", "Meera Iyer"), "cloud", new Profile($"emp-{number}", "Asha Rao"), reason, "acme",
        access: Access.Full, duration: new WindowLength(DurationUnit.Hours, 4), ticket: ticket);

    public static async Task<int> Main()
    {
        var services = new ServiceCollection();
        services.AddLogging();
        services.AddApi(options =>
        {
            options.AddTokens(new BearerToken(Key));
            options.AddApiHttpClients(client => client.BaseAddress = new Uri(Base));
        });
        var provider = services.BuildServiceProvider();
        var links = provider.GetRequiredService<IMagicLinksApi>();
        var sessions = provider.GetRequiredService<ISessionsApi>();
        var landing = provider.GetRequiredService<ILandingPageApi>();
        var audit = provider.GetRequiredService<IAuditApi>();
        string key = Guid.NewGuid().ToString(), token = "", code = "";

        await Step("register a consultant", async () =>
        {
            var person = new RegisterConsultant($"ravi-{Guid.NewGuid()}@support.example", "Ravi Kumar");
            consultant = (await provider.GetRequiredService<IConsultantsApi>().RegisterConsultantAsync(person)).Created()!;
            return consultant.State == ConsultantState.Active;
        });
        await Step("issue a link", async () =>
        {
            link = (await links.IssueMagicLinkAsync(Grant("SUP-1", 1042), key)).Created()!;
            return link.State == LinkState.Active;
        });
        await Step("issue it again with its key", async () => (await links.IssueMagicLinkAsync(Grant("SUP-1", 1042), key)).Created()!.Id == link.Id);
        await Step("read the link", async () =>
        {
            var read = (await links.GetMagicLinkAsync(link.Id)).Ok()!;
            return read.Profile.Name == "Asha Rao" && read.ExpiresAt > DateTime.UtcNow;
        });
        await Step("list with a filter, page by page", async () =>
        {
            for (var number = 1; number <= 3; number++)
                await links.IssueMagicLinkAsync(Grant("SUP-2", number));
            var first = (await links.ListMagicLinksAsync(tenantId: "acme", state: "active", ticket: "SUP-2", pageSize: 2)).Ok()!;
            var second = (await links.ListMagicLinksAsync(tenantId: "acme", state: "active", ticket: "SUP-2", pageSize: 2, cursor: first.NextCursor!)).Ok()!;
            return first.Items.Count == 2 && second.Items.Count == 1 && second.NextCursor is null;
        });
        await Step("preview the landing page", async () =>
        {
            token = await MailedToken(link.Id);
            return (await landing.PreviewLinkAsync(new LandingRequest(token))).Ok()!.State == LandingState.Ready;
        });
        await Step("continue to the portal", async () =>
        {
            code = CodeOf((await landing.ContinueLinkAsync(new LandingRequest(token))).Ok()!.RedirectUrl!);
            return code.Length > 0;
        });
        await Step("redeem the code", async () =>
        {
            session = (await sessions.OpenSessionAsync(new OpenSession(code, new Visitor("203.0.113.7")))).Created()!;
            return session.AccessToken.Length > 0;
        });
        await Step("introspect, as a form", async () =>
        {
            var found = (await sessions.IntrospectTokenAsync(session.AccessToken)).Ok()!;
            return found.Active && found.Sid == session.Id && found.Act!.Sub == consultant.Id;
        });
        await Step("report events", async () =>
        {
            var act = new ActivityEvent(
                "employee.salary.updated", DateTime.UtcNow, "emp-9", "employee", 1,
                changes: new List<Change> { new("basic", before: "50000", after: "52000") }, kind: ActivityKind.Change);
            return (await sessions.ReportEventsAsync(session.Id, new ReportEvents([act]))).Ok()!.Recorded == 1;
        });
        await Step("end the session", async () =>
        {
            var ended = (await sessions.EndSessionAsync(session.Id, new EndSession(sources: new Dictionary<string, long> { ["portal"] = 1 }))).Ok()!;
            return ended.State == SessionState.Ended && ended.AuditState == AuditState.Complete;
        });
        await Step("introspect after the end", async () => !(await sessions.IntrospectTokenAsync(session.AccessToken)).Ok()!.Active);
        await Step("revoke the link", async () =>
        {
            var request = new RevokeLink("The work is done", requestedBy: new Person("emp-7", "Meera Iyer"));
            return (await links.RevokeMagicLinkAsync(link.Id, request)).Ok()!.State == LinkState.Revoked;
        });
        await Step("revoke by ticket", async () =>
        {
            var order = new CreateRevocation("The ticket was closed", tenantId: "acme", ticket: "SUP-2");
            return (await links.CreateRevocationAsync(order)).Accepted()!.Links == 3;
        });
        await Step("read the audit log", async () =>
        {
            var events = (await audit.ListAuditEventsAsync(magicLinkId: link.Id, pageSize: 200)).Ok()!;
            return events.Items.Any(one => one.Type == EventType.MagicLinkRevoked);
        });
        await Step("read evidence", async () => (await audit.GetEvidenceAsync(link.Id)).Ok()!.Evidence is not null);
        await Step("read a checkpoint", async () =>
        {
            using var reader = new StreamReader((await audit.GetCheckpointAsync("acme")).Ok()!);
            return (await reader.ReadToEndAsync()).Contains("/audit/acme");
        });
        await Step("read the code of a refusal", async () =>
            (await links.GetMagicLinkAsync("mlk_00000000000000000000000000")).NotFound()!.Code == ProblemCode.NotFound);
        await Step("read which field is wrong", async () =>
        {
            var refused = (await links.IssueMagicLinkAsync(Grant("SUP-3", 4, "short"))).UnprocessableContent()!;
            return refused.Code == ProblemCode.ValidationFailed && refused.Errors![0].Pointer == "/reason";
        });
        return Failed;
    }
}
