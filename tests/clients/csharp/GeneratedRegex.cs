// What the SDK's own source generator writes for `[GeneratedRegex]`, where there is no SDK: the client itself stays as it is.
using System.Text.RegularExpressions;

namespace MagicLink.Client
{
    public static partial class ClientUtils
    {
        private static partial Regex JsonRegex() => new("(?i)^(application/json|[^;/ \t]+/[^;/ \t]+[+]json)[ \t]*(;.*)?$");
    }
}
