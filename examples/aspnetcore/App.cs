// A make-believe portal behind the guard: `dotnet run`. All data is invented, and gone on restart.
using System.Text.RegularExpressions;
using MagicLink;

string Setting(string name, string? otherwise = null) => Environment.GetEnvironmentVariable(name) ?? otherwise ?? throw new InvalidOperationException($"{name} is not set");

var builder = WebApplication.CreateBuilder();
builder.Services.AddAuthorization();
builder.Services.AddAuthentication(MagicLinkDefaults.Scheme).AddMagicLink(options =>
{
    options.Service = new(Setting("PORTAL_SERVICE_URL", "http://127.0.0.1:8080"));
    options.Key = Setting("PORTAL_CLOUD_KEY");
    options.PublicUrl = Setting("PORTAL_PUBLIC_URL", "http://127.0.0.1:8081");
    options.Portal = "cloud";
    options.WebhookSecret = Environment.GetEnvironmentVariable("PORTAL_WEBHOOK_SECRET");
});
var app = builder.Build();
app.UseMagicLink();
app.UseRouting();
app.UseAuthentication();
app.UseAuthorization();
app.MapMagicLink();

var employees = new Dictionary<string, Employee> { ["emp-9"] = new("Nikhil Menon", "0072 0167 3390", "50000") };
var changing = new SemaphoreSlim(1, 1);     // so that `before` in a report is what the change really replaces
Employee Find(string id) => employees.GetValueOrDefault(id) ?? throw Stop.NoSuchPage();

// CSV in which a value stays in its cell, and is no formula to a spreadsheet, with whatever separator that reads it.
var formula = new Regex("""((?:^|[;\t\r\n])[ "']*)(?=[=+\-@\t\r\n＝＋－＠])""");
IResult Table(Func<Employee, string> value) => Results.Text(string.Concat(employees.Select(row => string.Join(',', new[] { row.Key, value(row.Value) }
    .Select(cell => '"' + formula.Replace(cell, "$1'").Replace("\"", "\"\"") + '"')) + "\r\n")), "text/csv", System.Text.Encoding.UTF8);

var pages = app.MapGroup("/{tenant}/cloud").RequireAuthorization();

pages.MapGet("/", (HttpContext context) => Html.Page("home", $"Welcome, {context.User.Identity!.Name}", """
    <p><a href="employees/emp-9">An employee</a>, <a href="employees.csv">all of them as a file</a>, <a href="leave-policy">the leave policy</a></p>
    """, context.Visitor()));

pages.MapGet("/employees/{id}", async (HttpContext context, string id) =>
{
    var employee = Find(id);
    await context.Visitor().Report("employees", new("view", "employee.viewed", "employee", id, PrincipalId: id));
    return Html.Page("employee", employee.Name, $"""
        <form id="edit-employee" method="post">
        <p><label>Bank account <input name="bank_account" value="{Html.Escape(employee.BankAccount)}"></label></p>
        <p><label>Salary <input name="salary" value="{Html.Escape(employee.Salary)}"></label></p><button id="save">Save</button></form>
        """, context.Visitor());
});

pages.MapPost("/employees/{id}", async (HttpContext context, string id) =>
{
    var fields = await context.Fields("bank_account", "salary");
    if (Regex.IsMatch(fields[0] + fields[1], @"[\x00-\x1f\x7f-\x9f\u2028\u2029]")) throw new Stop(422, "refused", "This cannot be saved", "It has a line break or another control character in it.");
    await changing.WaitAsync();     // before the report, which asks once more
    try
    {
        var employee = Find(id);
        var wanted = employee with { BankAccount = fields[0], Salary = fields[1] };
        Change[] all = [new("bank_account", employee.BankAccount, wanted.BankAccount), new("salary", employee.Salary, wanted.Salary)];
        var changes = all.Where(one => one.Before != one.After).ToArray();
        if (changes.Length > 0)
        {
            var category = changes[0].Field == "bank_account" ? "bank_account" : null;
            await context.Visitor().Report("employees", new("change", "employee.updated", "employee", id, id, category, changes));
            employees[id] = wanted;     // no pause between the record and the deed
        }
    }
    finally { changing.Release(); }
    context.Response.Headers.Location = id;
    return Results.StatusCode(303);
});

pages.MapGet("/employees.csv", async (HttpContext context) =>
{
    await context.Visitor().Report("employees", new("export", "employees.exported", "employee_list", "all", Category: "export", PrincipalIds: [.. employees.Keys]));
    return Table(one => one.Name);
});

pages.MapGet("/bank-accounts.csv", async (HttpContext context) =>
{
    await context.Visitor().Report("employees", new("export", "bank_accounts.exported", "employee_list", "all", Category: "bank_account", PrincipalIds: [.. employees.Keys]));
    return Table(one => one.BankAccount);
});

pages.MapGet("/leave-policy", async (HttpContext context) =>
{
    await context.Visitor().Report("leave", new("view", "leave_policy.viewed", "leave_policy", "default"));
    return Html.Page("leave-policy", "Leave policy", "<p>24 days a year.</p>", context.Visitor());
});

app.Run("http://" + Setting("PORTAL_LISTEN", "127.0.0.1:8081"));

sealed record Employee(string Name, string BankAccount, string Salary);
