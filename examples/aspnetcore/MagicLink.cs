// The guard: lets support consultants into an ASP.NET Core portal through Magic Link. Copy this file; the README says how.
//
// Its numbers are those of the rules in examples/portal/README.md. State is in memory: with several copies of the portal, put
// sessions, arrivals and owed into the store that they share, and draw the numbers of reports there under a lock.
using System.Collections.Concurrent;
using System.Diagnostics;
using System.Security.Claims;
using System.Security.Cryptography;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.RegularExpressions;
using Microsoft.AspNetCore.Authentication;
using Microsoft.AspNetCore.Mvc;
using Microsoft.Extensions.Options;

namespace MagicLink;

public sealed class MagicLinkOptions : AuthenticationSchemeOptions
{
    public Uri Service { get; set; } = new("http://127.0.0.1:8080");
    public string Key { get; set; } = "";
    public string PublicUrl { get; set; } = "";
    public string Portal { get; set; } = "";
    public string? WebhookSecret { get; set; }
}

public static class MagicLinkDefaults
{
    public const string Scheme = "MagicLink";

    public static AuthenticationBuilder AddMagicLink(this AuthenticationBuilder builder, Action<MagicLinkOptions> configure)
    {
        builder.Services.AddSingleton<Guard>().AddHostedService(services => services.GetRequiredService<Guard>());
        // At "Information" the host logs each address with its query: that of the callback holds the code (rule 1).
        builder.Services.AddLogging(logging => logging.AddFilter("Microsoft.AspNetCore.Hosting", LogLevel.Warning));
        return builder.AddScheme<MagicLinkOptions, MagicLinkHandler>(Scheme, configure);
    }

    /// <summary>Headers of every answer, and notices instead of pages that stop. Before UseAuthentication.</summary>
    public static IApplicationBuilder UseMagicLink(this IApplicationBuilder app) => app.Use(async (context, next) =>
    {
        var headers = context.Response.Headers;
        headers.CacheControl = "no-store";
        headers.XContentTypeOptions = "nosniff";
        headers.ContentSecurityPolicy = "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
        // Not `no-referrer`: with that a browser sends `Origin: null` with our own forms.
        headers["Referrer-Policy"] = "same-origin";
        try { await next(context); }
        catch (Stop stop) when (!context.Response.HasStarted) { await stop.Page().ExecuteAsync(context); }
        // Of the server and its readers of forms.
        catch (Exception error) when (error is (BadHttpRequestException or InvalidDataException) && !context.Response.HasStarted)
        {
            await Stop.Unreadable((error as BadHttpRequestException)?.StatusCode ?? 400).Page().ExecuteAsync(context);
        }
    });

    /// <summary>Callback, arrival, "I am done" and webhook.</summary>
    public static void MapMagicLink(this IEndpointRouteBuilder routes)
    {
        var guard = routes.ServiceProvider.GetRequiredService<Guard>();
        var at = "/{tenant}/" + guard.Options.Portal;
        routes.MapGet(at + "/callback", guard.Callback);    // GET only: a HEAD must not spend the code
        routes.MapGet(at + "/arrival", guard.Ask);
        routes.MapPost(at + "/arrival", guard.Answer).WithMetadata(new RequestSizeLimitAttribute(4 * 1024));
        routes.MapPost(at + "/done", guard.Finish);
        // As a Delegate: what takes an HttpContext and nothing else passes for a RequestDelegate, whose result is thrown away.
        if (guard.Options.WebhookSecret is not null) routes.MapPost("/webhooks/magic-link", (Delegate)guard.Webhook).WithMetadata(new RequestSizeLimitAttribute(64 * 1024));
    }

    /// <summary>Who was let in by this very request.</summary>
    public static Visitor Visitor(this HttpContext context) => context.Items[typeof(Visitor)] as Visitor ?? throw Stop.Ended();

    /// <summary>The fields of a form, each of them sent once. A body of another type has none.</summary>
    public static async Task<string[]> Fields(this HttpContext context, params string[] names)
    {
        if (!context.Request.HasFormContentType) throw Stop.Unreadable(415);
        var form = await context.Request.ReadFormAsync();
        return [.. names.Select(name => form[name] is [{ } text] ? text : throw Stop.Unreadable(400))];
    }
}

public sealed record Person(string Id, string Name);
public sealed record Change(string Field, string Before, string After);
public sealed record Act(string Kind, string Action, string ResourceType, string ResourceId, string? PrincipalId = null, string? Category = null, Change[]? Changes = null, string[]? PrincipalIds = null)
{
    public bool Same(Act other) => (this with { Changes = null, PrincipalIds = null }) == (other with { Changes = null, PrincipalIds = null })
        && (Changes ?? []).SequenceEqual(other.Changes ?? []) && (PrincipalIds ?? []).SequenceEqual(other.PrincipalIds ?? []);
}
sealed record Numbered(long Seq, DateTimeOffset OccurredAt, Act Act);
sealed record Opened(string Id, string MagicLinkId, string TenantId, string Portal, string AccessToken, DateTimeOffset ExpiresAt, Person Profile, Person Consultant);
sealed record Actor(string? Sub);
sealed record Token(bool? Active, string? Sid, string? Sub, Actor? Act, long? Exp, string? TenantId, string? Portal, string? Access, string[]? Modules, string[]? Forbidden)
{ public DateTimeOffset End => DateTimeOffset.FromUnixTimeSeconds(Exp ?? 0); }
sealed record Data(string? MagicLinkId, string? SessionId);
sealed record Message(string Type, Data Data);
sealed record Problem(string? Code);

/// <summary>The service said no, and nothing happened there.</summary>
sealed class Refused(int status, string code) : Exception($"{status} {code}") { public int Status => status; public string Code => code; }
/// <summary>No usable answer: the service may have acted or not.</summary>
sealed class NoVerdict(string what) : Exception(what);

/// <summary>A request ends with a notice instead of its page.</summary>
public sealed class Stop(int status, string mark, string title, string text = "") : Exception(title)
{
    internal static Stop Ended() => new(403, "ended", "Access has ended", "Its time is up, it was ended, or this browser never had it.");
    internal static Stop Unknown() => new(503, "unavailable", "Access cannot be checked right now", "Nobody is let in without the word of the service. Try again in a moment.");
    internal static Stop Unrecorded() => new(503, "unavailable", "This could not be recorded", "Nothing happens without a record, so nothing happened. Try again in a moment.");
    internal static Stop Unrecordable(string code) => new(422, "refused", "This cannot be recorded", $"Nothing happens without a record, so nothing happened. The service refuses what it would say ({code}), and will refuse the same again.");
    internal static Stop Elsewhere() => new(403, "refused", "This was asked for by another site", "Nothing was shown or changed. Ask for it on a page of this portal.");
    internal static Stop Unseen() => new(405, "refused", "This is shown to nobody", "Nothing was done. Ask for it with GET.");
    internal static Stop Ahead() => new(503, "unavailable", "This is not fetched ahead", "Nothing was done. It is shown when it is asked for.");
    internal static Stop Twice() => new(403, "refused", "This browser holds two sessions", "Another site may have put one of them here. Delete the cookies of this site, and use the link in your mail again.");
    internal static Stop Superseded() => new(403, "refused", "This question is not open any more", "Nobody was signed in. Use the link in your mail again.");
    internal static Stop Unreadable(int status) => new(status, "refused", "This request cannot be read", "Go back, reload the page and try again.");
    public static Stop NoSuchPage() => new(404, "refused", "There is no such page");
    internal IResult Page() => Html.Page(mark, Message, $"<p>{Html.Escape(text)}</p>", null, status);
}

public static class Html
{
    public static string Escape(string text) => HtmlEncoder.Default.Encode(text);

    /// <summary>`body` is HTML. With a visitor, the page asks again when their time is up.</summary>
    public static IResult Page(string mark, string title, string body, Visitor? visitor = null, int status = 200) => Results.Content($"""
        <!doctype html><html lang="en"><head><meta charset="utf-8">{visitor?.Refresh()}<title>{Escape(title)}</title></head>
        <body data-page="{mark}">{visitor?.Banner()}<main><h1>{Escape(title)}</h1>{body}</main></body></html>
        """, "text/html", Encoding.UTF8, status);
}

/// <summary>What a code bought, and the numbered report of what was done with it.</summary>
sealed class Session(string tenant, Opened opened)
{
    public readonly string Tenant = tenant, Question = Guard.Random();
    public readonly Opened Opened = opened;
    public readonly DateTimeOffset Until = new[] { DateTimeOffset.UtcNow + Guard.Patience, opened.ExpiresAt }.Min();
    public readonly SemaphoreSlim Lock = new(1, 1);
    public string? Key;     // of the cookie, once the visitor has said yes
    public long LastSeq;
    public Numbered? Unsettled;
    public volatile bool Closed, Done;
}

/// <summary>Somebody whom the service confirmed during this very request.</summary>
public sealed class Visitor
{
    private readonly Guard guard;
    private readonly Session session;
    private readonly bool isFromHere;
    private Token token;

    internal Visitor(Guard guard, Session session, Token token, bool isFromHere) => (this.guard, this.session, this.token, this.isFromHere) = (guard, session, token, isFromHere);

    public Person Profile => session.Opened.Profile;
    public bool IsReadOnly => token.Access != "full";

    /// <summary>The one place where `access`, `modules` and `forbidden` are kept to (rule 12), and what another site may not start (rule 17).</summary>
    private void Allow(string module, Act act)
    {
        if (act.Kind == "export" && !isFromHere) throw Stop.Elsewhere();
        var why = IsReadOnly && act.Kind == "change" ? "It is read only: you can look, but not change anything."
            : token.Modules is { } modules && !modules.Contains(module) ? "It does not reach into this part of the portal."
            : token.Forbidden is { } words && (words.Contains(act.Category) || (act.Kind == "export" && words.Contains("export"))) ? "The company has left out what you tried." : null;
        if (why is not null) throw new Stop(403, "refused", "This access does not include that", why);
    }

    /// <summary>Whether the visitor may still do it, now: since they were let in, the request has waited (rule 6).</summary>
    private async Task AskAgain(string module, Act act)
    {
        if (session.Closed) throw Stop.Ended();
        token = await guard.Introspect(session);
        Allow(module, act);
    }

    private bool IsOver => DateTimeOffset.UtcNow is var now && (now >= token.End || now >= session.Opened.ExpiresAt);

    /// <summary>Records an act of a part of the portal. Show or do it only after this returns (rule 8), with no pause in between, and wait for locks of your own before.
    /// It names everybody whose data it is: one person in `PrincipalId`, several in `PrincipalIds`.</summary>
    public async Task Report(string module, Act act)
    {
        if (act.PrincipalIds is not { Length: > Guard.Persons } persons) { await Record(module, act); return; }
        foreach (var some in persons.Chunk(Guard.Persons)) await Record(module, act with { PrincipalIds = some });
    }

    private async Task Record(string module, Act act)
    {
        await session.Lock.WaitAsync();
        try
        {
            // The same act once more is the retry of the one that was left open: same number, same content (rule 9).
            var isRetry = session.Unsettled?.Act.Same(act) == true;
            if (!isRetry) await guard.Settle(session);
            var asked = Stopwatch.GetTimestamp();
            await AskAgain(module, act);
            if (!isRetry) Guard.Number(session, act);
            await guard.Deliver(session);
            if (Stopwatch.GetElapsedTime(asked) > Guard.Slow || IsOver)
            {
                // Of a change, the way back: noted before asking, whatever becomes of that, and forgotten if it is made after all.
                Guard.TakeBack(session, act);
                try { await AskAgain(module, act); }
                catch (Stop)    // a change is not made: the record says so, now or with the next act or the count
                {
                    try { await guard.Settle(session); }
                    catch (NoVerdict error) { guard.Log.LogWarning("Session {Session}: not taken back yet: {Error}", session.Opened.Id, error.Message); }
                    throw;
                }
                session.Unsettled = null;
            }
        }
        catch (Exception error) when (error is Refused or NoVerdict)
        {
            guard.Log.LogWarning("Session {Session}: not recorded: {Error}", session.Opened.Id, error.Message);
            // What is wrong with the key is nothing that the visitor could change.
            throw error is Refused { Status: not (401 or 403) } refused ? Stop.Unrecordable(refused.Code) : Stop.Unrecorded();
        }
        finally { session.Lock.Release(); }
    }

    internal string Refresh() => $"""<meta http-equiv="refresh" content="{Math.Max(1, (int)(token.End - DateTimeOffset.UtcNow).TotalSeconds + 1)}">""";

    /// <summary>Who acts, as whom, until when (rule 11).</summary>
    public string Banner()
    {
        List<string> facts = [];
        if (IsReadOnly) facts.Add("Read only");
        if (token.Modules is { } modules) facts.Add("Only in: " + string.Join(", ", modules));
        if (token.Forbidden is { Length: > 0 } words) facts.Add("Not included: " + string.Join(", ", words).Replace('_', ' '));
        facts.Add("Everything is recorded");
        return $"""
            <section id="acting-as" data-act="{Html.Escape(token.Act!.Sub!)}"><p><strong>{Html.Escape(session.Opened.Consultant.Name)}</strong> (support) is acting as
            <strong>{Html.Escape(Profile.Name)}</strong> until <time datetime="{token.End:yyyy-MM-ddTHH:mm:ssZ}">{token.End:yyyy-MM-dd HH:mm} UTC</time>. {Html.Escape(string.Join(". ", facts))}.</p>
            <form method="post" action="{guard.Root(session.Tenant)}done"><button id="done">I am done</button></form></section>
            """;
    }

    /// <summary>`sub` is the profile, `act` the consultant (RFC 8693).</summary>
    internal ClaimsPrincipal Principal()
    {
        List<Claim> claims = [new("sub", Profile.Id), new("name", Profile.Name), new("act", token.Act!.Sub!), new("act_name", session.Opened.Consultant.Name),
            new("sid", session.Opened.Id), new("tenant_id", session.Tenant), new("portal", token.Portal!), new("access", IsReadOnly ? "read_only" : "full")];
        claims.AddRange((token.Modules ?? []).Select(word => new Claim("module", word)));
        claims.AddRange((token.Forbidden ?? []).Select(word => new Claim("forbidden", word)));
        return new(new ClaimsIdentity(claims, MagicLinkDefaults.Scheme, "name", null));
    }

    internal DateTimeOffset End => token.End;
}

/// <summary>Authenticates each request by asking the service. `[Authorize]` is all that a page needs.</summary>
sealed class MagicLinkHandler(IOptionsMonitor<MagicLinkOptions> options, ILoggerFactory logger, UrlEncoder encoder, Guard guard)
    : AuthenticationHandler<MagicLinkOptions>(options, logger, encoder)
{
    protected override async Task<AuthenticateResult> HandleAuthenticateAsync()
    {
        try
        {
            var visitor = await guard.Admit(Context);
            Context.Items[typeof(Visitor)] = visitor;
            return AuthenticateResult.Success(new(visitor.Principal(), new() { ExpiresUtc = visitor.End }, Scheme.Name));
        }
        catch (Stop stop) { return AuthenticateResult.Fail(stop); }
    }

    protected override async Task HandleChallengeAsync(AuthenticationProperties properties) =>
        await ((await HandleAuthenticateOnceSafeAsync()).Failure as Stop ?? Stop.Ended()).Page().ExecuteAsync(Context);
}

public sealed class Guard : BackgroundService
{
    internal static readonly TimeSpan Patience = TimeSpan.FromMinutes(10);  // to say yes on the arrival page
    private static readonly TimeSpan BodyTime = TimeSpan.FromSeconds(10);   // for a body to come
    internal const int Persons = 100;   // whom one event names at most
    internal static readonly TimeSpan Slow = TimeSpan.FromSeconds(1);       // a report that took longer is asked about again
    private static readonly TimeSpan Late = TimeSpan.FromHours(72);         // how long the service takes reports after the end
    private static readonly JsonSerializerOptions Json = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull };
    private readonly ConcurrentDictionary<string, Session> sessions = new(), arrivals = new();
    private readonly ConcurrentDictionary<Session, bool> owed = new();      // closing counts that the service has not taken yet
    private readonly HttpClient http;
    internal readonly MagicLinkOptions Options;
    internal readonly ILogger Log;

    public Guard(IOptionsMonitor<MagicLinkOptions> options, ILogger<Guard> log)
    {
        (Options, Log) = (options.Get(MagicLinkDefaults.Scheme), log);
        // No redirects: they would carry the key to an address nobody configured.
        http = new(new SocketsHttpHandler { AllowAutoRedirect = false, UseCookies = false, ConnectTimeout = TimeSpan.FromSeconds(2) })
        { BaseAddress = Options.Service, Timeout = TimeSpan.FromSeconds(5), DefaultRequestHeaders = { Authorization = new("Bearer", Options.Key) } };
    }

    internal static string Random() => RandomNumberGenerator.GetHexString(64, lowercase: true);

    // --- the conversation with the service ---

    /// <summary>POST, repeated once where the first attempt brought no verdict. `unclear`: a refusal of the repeat does not tell that the first attempt was not taken.</summary>
    private async Task<T> Call<T>(string path, Func<HttpContent> body, string? key = null, bool unclear = false)
    {
        for (var attempt = 1; ; attempt++)
        {
            string failure;
            var pause = TimeSpan.Zero;
            try
            {
                using var request = new HttpRequestMessage(HttpMethod.Post, path) { Content = body() };
                if (key is not null) request.Headers.Add("Idempotency-Key", key);
                using var answer = await http.SendAsync(request);
                var status = (int)answer.StatusCode;
                if (answer.IsSuccessStatusCode) return await answer.Content.ReadFromJsonAsync<T>(Json) ?? throw new JsonException("null");
                if (status < 500 && !(answer.Headers.RetryAfter is not null && status is 409 or 429))
                    throw unclear && attempt > 1 ? new NoVerdict($"{path}: refused after no verdict: {status}") : new Refused(status, await CodeOf(answer));
                failure = $"{path}: {status}";
                pause = new[] { answer.Headers.RetryAfter?.Delta ?? TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(2) }.Min();
            }
            catch (Exception error) when (error is HttpRequestException or OperationCanceledException or JsonException or NotSupportedException) { failure = $"{path}: {error.GetType().Name}"; }
            if (attempt > 1) throw new NoVerdict(failure);
            await Task.Delay(pause);
        }
    }

    private Task<JsonElement> Call(string path, object body, bool unclear = false) => Call<JsonElement>(path, () => JsonContent.Create(body, options: Json), null, unclear);

    /// <summary>The stable code of a problem (RFC 9457).</summary>
    private static async Task<string> CodeOf(HttpResponseMessage answer)
    {
        try { return (await answer.Content.ReadFromJsonAsync<Problem>(Json))?.Code ?? ""; }
        catch (Exception error) when (error is JsonException or NotSupportedException) { return ""; }
    }

    internal static void Number(Session session, Act act) => session.Unsettled = new(session.LastSeq + 1, DateTimeOffset.UtcNow, act);

    internal async Task Deliver(Session session)
    {
        var (seq, at, act) = session.Unsettled!;
        var numbered = new { seq, source = "portal", occurred_at = at, act.Kind, act.Action, act.ResourceType, act.ResourceId, act.PrincipalId, act.PrincipalIds, act.Category, act.Changes };
        try { await Call($"/v1/sessions/{session.Opened.Id}/events", new { events = new[] { numbered } }, unclear: true); }
        catch (Refused) { session.Unsettled = null; throw; }    // surely not taken: its number is free
        (session.LastSeq, session.Unsettled) = (seq, null);
    }

    /// <summary>Clears up what an earlier attempt left open. Its act was never done: for a change, the way back is recorded too.</summary>
    internal async Task Settle(Session session)
    {
        while (session.Unsettled is { Act: var act })
        {
            try { await Deliver(session); } catch (Refused) { return; }     // it left no trace, and holds nothing else up
            TakeBack(session, act);
        }
    }

    /// <summary>Of what was recorded and not done: for a change, the way back.</summary>
    internal static void TakeBack(Session session, Act act)
    {
        if (act is { Kind: "change", Action: not "change.not_applied" })
            Number(session, act with { Action = "change.not_applied", Changes = act.Changes?.Select(one => one with { Before = one.After, After = one.Before }).ToArray() });
    }

    /// <summary>Ends the session with its count (rule 10). What the service does not take now is sent again by the sweep.</summary>
    private async Task Close(Session session)
    {
        session.Closed = true;
        owed[session] = true;
        await session.Lock.WaitAsync();
        try
        {
            await Settle(session);
            await Call($"/v1/sessions/{session.Opened.Id}/end", new { consultant_done = session.Done, sources = new { portal = session.LastSeq } });
            owed.TryRemove(session, out _);
        }
        catch (Refused error) when (error.Status is 404 or 409 or 410 || DateTimeOffset.UtcNow > session.Opened.ExpiresAt + Late) { owed.TryRemove(session, out _); }
        catch (Exception error) when (error is Refused or NoVerdict) { Log.LogWarning("Session {Session}: not closed yet: {Error}", session.Opened.Id, error.Message); }
        finally { session.Lock.Release(); }
    }

    /// <summary>Out here at once; the service hears of it a moment later.</summary>
    private void Forget(Func<Session, bool> chosen)
    {
        foreach (var (key, session) in sessions)
            if (chosen(session) && sessions.TryRemove(key, out _)) owed[session] = true;
    }

    protected override async Task ExecuteAsync(CancellationToken stopping)
    {
        while (!stopping.IsCancellationRequested)
        {
            var now = DateTimeOffset.UtcNow;
            Forget(session => session.Opened.ExpiresAt <= now);
            foreach (var (key, session) in arrivals)
                if (session.Until <= now && arrivals.TryRemove(key, out _) && session.Key is null) owed[session] = true;
            foreach (var session in owed.Keys) await Close(session);
            await Task.Delay(1000, stopping).ContinueWith(_ => { }, CancellationToken.None);
        }
    }

    // --- the guard ---

    /// <summary>The path of this tenant's pages, and of its cookies (rule 5).</summary>
    public string Root(string? tenant) => Regex.IsMatch(tenant ?? "", @"\A[A-Za-z0-9][A-Za-z0-9._-]{0,63}\z") ? $"/{tenant}/{Options.Portal}/" : throw Stop.NoSuchPage();

    /// <summary>A cookie of ours. Of two that differ nobody's: any host above or beside this one could have set one (rule 5).</summary>
    private static string Cookie(HttpContext context, string name)
    {
        var pairs = context.Request.Headers.Cookie.SelectMany(line => (line ?? "").Split(';')).Select(pair => pair.Trim().Split('=', 2));
        var values = pairs.Where(pair => pair[0] == name).Select(pair => pair.ElementAtOrDefault(1) ?? "").Distinct().ToArray();
        return values.Length > 1 ? throw Stop.Twice() : values.FirstOrDefault() ?? "";
    }

    private Session? Mine(HttpContext context, string? tenant) =>
        sessions.TryGetValue(Cookie(context, "portal_session"), out var session) && session.Tenant == tenant ? session : null;

    internal async Task<Visitor> Admit(HttpContext context)
    {
        var tenant = context.GetRouteValue("tenant") as string;
        Seen(context);
        if (!HttpMethods.IsGet(context.Request.Method)) OwnForm(context);
        var session = Mine(context, tenant) ?? throw Stop.Ended();
        await ReadBody(context);
        return new(this, session, await Introspect(session), IsFromHere(context));
    }

    /// <summary>The clear yes of the service, now (rule 6).</summary>
    internal async Task<Token> Introspect(Session session)
    {
        if (DateTimeOffset.UtcNow < session.Opened.ExpiresAt)
        {
            Token token;
            try { token = await Call<Token>("/v1/introspect", () => new FormUrlEncodedContent([new("token", session.Opened.AccessToken)])); }
            catch (Exception error) when (error is Refused or NoVerdict) { Log.LogWarning("Session {Session}: not checked: {Error}", session.Opened.Id, error.Message); throw Stop.Unknown(); }
            // Without grace: the end that the company was told is the end.
            var isOver = token is { Active: true, Exp: not null } && DateTimeOffset.UtcNow >= token.End;
            if (token.Active == true && !isOver && IsOf(token, session)) return token;
            if (token.Active != false && !isOver) throw Stop.Unknown();     // neither yes nor no
        }
        Forget(one => one == session);
        throw Stop.Ended();
    }

    /// <summary>To its end, before the service is asked: it may be begun before the end of the access and finished after it (rule 6).
    /// How large it may be is the server's to say.</summary>
    private static async Task ReadBody(HttpContext context)
    {
        using var time = CancellationTokenSource.CreateLinkedTokenSource(context.RequestAborted);
        time.CancelAfter(BodyTime);
        context.Request.EnableBuffering();
        try { await context.Request.Body.CopyToAsync(Stream.Null, time.Token); }
        catch (OperationCanceledException) { throw Stop.Unreadable(408); }
        context.Request.Body.Position = 0;
    }

    /// <summary>Rules 3 and 6: of this session, this tenant and this portal.</summary>
    private bool IsOf(Token token, Session session) => token.Sid == session.Opened.Id && token.TenantId == session.Tenant && token.Portal == Options.Portal
        && token.Sub == session.Opened.Profile.Id && token.Act?.Sub == session.Opened.Consultant.Id && token.Exp is not null;

    /// <summary>Only forms of our own pages (rule 15).</summary>
    private void OwnForm(HttpContext context)
    {
        var (site, origin) = (context.Request.Headers["Sec-Fetch-Site"], context.Request.Headers.Origin);
        if (!(site.Count > 0 ? site == "same-origin" : origin == Options.PublicUrl.TrimEnd('/'))) throw Stop.Elsewhere();
    }

    /// <summary>Whether a page of ours or the visitor's own typing asks for it (rule 17). Who does not say passes, for a form is asked more strictly.</summary>
    private bool IsFromHere(HttpContext context)
    {
        var (site, origin) = (context.Request.Headers["Sec-Fetch-Site"], context.Request.Headers.Origin);
        return site.Count > 0 ? site.ToString() is "same-origin" or "none" : origin.Count == 0 || origin == Options.PublicUrl.TrimEnd('/');
    }

    /// <summary>Nothing is done for what nobody may ever see (rule 17).</summary>
    private static void Seen(HttpContext context)
    {
        if (HttpMethods.IsHead(context.Request.Method)) { context.Response.Headers.Allow = "GET"; throw Stop.Unseen(); }
        string[] names = ["Sec-Purpose", "Purpose", "X-Moz"];
        if (names.Any(name => context.Request.Headers[name].ToString().Contains("prefetch", StringComparison.OrdinalIgnoreCase))) throw Stop.Ahead();
    }

    // Lax: Strict would be held back on the way in.
    private void SetCookie(HttpContext context, string tenant, string name, string value, TimeSpan life) => context.Response.Cookies.Append(name, value,
        new() { MaxAge = life > TimeSpan.Zero ? life : TimeSpan.Zero, Path = Root(tenant), HttpOnly = true, SameSite = SameSiteMode.Lax, Secure = Options.PublicUrl.StartsWith("https:") });

    // --- the way in and out ---

    /// <summary>Redeems the code. Nobody is signed in yet (rule 16).</summary>
    internal async Task<IResult> Callback(HttpContext context, string tenant)
    {
        // This address holds the code, however it is spelled, and nobody may learn it.
        context.Response.Headers["Referrer-Policy"] = "no-referrer";
        Seen(context);
        var (root, code) = (Root(tenant), context.Request.Query["code"].ToString());
        var agent = context.Request.Headers.UserAgent.ToString();
        // A socket for both kinds shows IPv4 mapped into IPv6. What is mapped is unwrapped, and nothing else: any other IPv6
        // address would become the IPv4 address of a stranger. Behind a Unix socket there is none.
        var peer = context.Connection.RemoteIpAddress;
        var visitor = new { address = (peer is { IsIPv4MappedToIPv6: true } ? peer.MapToIPv4() : peer)?.ToString(), user_agent = agent[..Math.Min(256, agent.Length)] };
        Opened opened;
        try { opened = await Call<Opened>("/v1/sessions", () => JsonContent.Create(new { token = code, visitor }, options: Json), Random()); }
        catch (Refused error) when (error.Status is 400 or 404 or 409 or 410)
        {
            throw new Stop(error.Status, "refused", "This link opens nothing", $"The service says: {error.Code}. Use the link in your mail again: its page can e-mail you a fresh one.");
        }
        catch (Exception error) when (error is Refused or NoVerdict) { Log.LogWarning("A code was not redeemed: {Error}", error.Message); throw Stop.Unknown(); }
        var session = new Session(tenant, opened);
        if (opened.TenantId != tenant || opened.Portal != Options.Portal)
        {
            owed[session] = true;   // somebody else's door: ended, not used
            throw new Stop(404, "refused", "This link belongs to another portal");
        }
        var key = Random();
        arrivals[key] = session;
        SetCookie(context, tenant, "portal_arrival", key, Patience);
        return SeeOther(context, root + "arrival");
    }

    private static IResult SeeOther(HttpContext context, string address) { context.Response.Headers.Location = address; return Results.StatusCode(303); }

    private Session Arrival(HttpContext context, string tenant) =>
        arrivals.TryGetValue(Cookie(context, "portal_arrival"), out var session) && session.Tenant == tenant && session.Until > DateTimeOffset.UtcNow
            ? session : throw Stop.Superseded();

    /// <summary>Asks whether the visitor is who the code says.</summary>
    internal IResult Ask(HttpContext context, string tenant)
    {
        var (root, session, current) = (Root(tenant), Arrival(context, tenant), Mine(context, tenant));
        if (session.Key is not null) throw Stop.Superseded();
        var ends = current is null ? "" : $"<p>This ends the session of {Html.Escape(current.Opened.Consultant.Name)} in this browser.</p>";
        var profile = Html.Escape(session.Opened.Profile.Name);
        return Html.Page("arrival", $"Continue as {session.Opened.Profile.Name}?", $"""
            <p>You are <strong>{Html.Escape(session.Opened.Consultant.Name)}</strong> (support), and would act as <strong>{profile}</strong>
            until {session.Opened.ExpiresAt.UtcDateTime:yyyy-MM-dd HH:mm} UTC. Everything is recorded under your name.</p>{ends}
            <form method="post" action="{root}arrival"><input type="hidden" name="question" value="{session.Question}">
            <button id="arrive" name="answer" value="yes">Continue as {profile}</button> <button id="decline" name="answer" value="no">That is not me</button></form>
            """);
    }

    /// <summary>Yes starts the session, under a fresh id (rule 4), and ends the one before it. No ends what the code opened.</summary>
    internal async Task<IResult> Answer(HttpContext context, string tenant)
    {
        OwnForm(context);
        var fields = await context.Fields("question", "answer");
        var (root, session, yes) = (Root(tenant), Arrival(context, tenant), fields[1] == "yes");
        if (fields[0] != session.Question || session.Key is not null && !yes) throw Stop.Superseded();
        if (!yes)
        {
            if (!arrivals.TryRemove(Cookie(context, "portal_arrival"), out _)) throw Stop.Superseded();
            await Close(session);
            return Html.Page("refused", "Nobody was signed in", "<p>What the link opened was ended. If you opened no link, tell your security contact.</p>");
        }
        var earlier = Mine(context, tenant);
        if (Interlocked.CompareExchange(ref session.Key, Random(), null) is null)   // a double click gets the same answer
        {
            sessions[session.Key] = session;
            Forget(one => one == earlier);
        }
        SetCookie(context, tenant, "portal_session", session.Key, session.Opened.ExpiresAt - DateTimeOffset.UtcNow);
        return SeeOther(context, root);
    }

    /// <summary>I am done.</summary>
    internal async Task<IResult> Finish(HttpContext context, string tenant)
    {
        OwnForm(context);
        var session = Mine(context, tenant) ?? throw Stop.Ended();
        session.Done = true;    // before the sweep can see it
        Forget(one => one == session);
        await Close(session);
        SetCookie(context, tenant, "portal_session", "", TimeSpan.Zero);
        return Html.Page("goodbye", "Your support session is over", "<p>Thank you. You can close this page.</p>");
    }

    /// <summary>Messages of the service: what has ended is forgotten at once, and its record closed.</summary>
    internal async Task<IResult> Webhook(HttpContext context)
    {
        var body = new MemoryStream();
        await context.Request.Body.CopyToAsync(body);
        if (!Verified(Options.WebhookSecret!, context.Request.Headers, body.ToArray(), DateTimeOffset.UtcNow)) return Results.StatusCode(401);
        var message = JsonSerializer.Deserialize<Message>(body.ToArray(), Json)!;
        // Whatever its sequence: what has ended never begins again, so a repeat or a late message finds nothing to forget.
        if (message.Type == "session.ended") Forget(session => session.Opened.Id == message.Data.SessionId);
        else if (message.Type is "magic_link.revoked" or "magic_link.replaced" or "magic_link.expired") Forget(session => session.Opened.MagicLinkId == message.Data.MagicLinkId);
        return Results.NoContent();
    }

    /// <summary>Standard Webhooks 1.0: HMAC-SHA256 over id, time and the bytes as they came; five minutes either way.</summary>
    public static bool Verified(string secret, IHeaderDictionary headers, byte[] body, DateTimeOffset now)
    {
        var (id, sent, given) = (headers["webhook-id"].ToString(), headers["webhook-timestamp"].ToString(), headers["webhook-signature"].ToString());
        if (id == "" || !Regex.IsMatch(sent, @"\A[0-9]{1,12}\z") || Math.Abs(now.ToUnixTimeSeconds() - long.Parse(sent)) > 300) return false;
        var key = Convert.FromBase64String(secret.Replace("whsec_", ""));
        byte[] signed = [.. Encoding.UTF8.GetBytes($"{id}.{sent}."), .. body];
        var wanted = Encoding.UTF8.GetBytes("v1," + Convert.ToBase64String(HMACSHA256.HashData(key, signed)));
        return given.Split(' ').Any(one => CryptographicOperations.FixedTimeEquals(Encoding.UTF8.GetBytes(one), wanted));
    }
}
