// What both flows share: where the service is, one line for each step, and the mail.
using System;
using System.Net.Http;
using System.Text.RegularExpressions;
using System.Threading.Tasks;

public static class Steps
{
    public static readonly string Base = Environment.GetEnvironmentVariable("CLIENTS_BASE")!;
    public static readonly string Key = Environment.GetEnvironmentVariable("CLIENTS_KEY")!;
    public static int Failed { get; private set; }

    public static async Task Step(string name, Func<Task<bool>> run)
    {
        var why = "not the answer that was expected";
        try
        {
            if (await run())
            {
                Console.WriteLine($"passed\t{name}");
                return;
            }
        }
        catch (Exception error)
        {
            why = $"{error.GetType().Name}: {error.Message} {error.InnerException?.Message}".ReplaceLineEndings(" ");
        }
        Failed = 1;
        Console.WriteLine($"failed\t{name}\t{why}");
    }

    public static async Task<string> MailedToken(string link)
    {
        using var http = new HttpClient();
        return await http.GetStringAsync($"{Environment.GetEnvironmentVariable("CLIENTS_MAIL")}/{link}");
    }

    public static string CodeOf(string address) => Uri.UnescapeDataString(Regex.Match(address, "[?&]code=([^&]+)").Groups[1].Value);
}
