// `TryOffline ISSUER AUDIENCE`: a token on each line in, `yes` or `no` on each line out.
using MagicLink;

var offline = new Offline(args[0], args[1]);
while (Console.ReadLine() is { } token) Console.WriteLine(await offline.Verify(token) is null ? "no" : "yes");
