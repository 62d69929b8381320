// Verifies access tokens without asking the service on each request, with nothing but .NET. Copy this file.
//
// A revocation is learned of when the status list is fetched again, a minute later at most. The guard asks instead.
using System.Buffers.Text;
using System.Collections.Concurrent;
using System.IO.Compression;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;

namespace MagicLink;

public sealed class Offline(string issuer, string audience)
{
    private const int MostBytes = 1 << 20;
    private static readonly TimeSpan KeysLife = TimeSpan.FromMinutes(5), KeysPause = TimeSpan.FromSeconds(10), ListLife = TimeSpan.FromSeconds(60);
    private readonly HttpClient http = new(new SocketsHttpHandler { AllowAutoRedirect = false, ConnectTimeout = TimeSpan.FromSeconds(2) }) { Timeout = TimeSpan.FromSeconds(5), MaxResponseContentBufferSize = MostBytes };
    private readonly ConcurrentDictionary<string, (byte[] Bits, DateTimeOffset Until)> lists = new();
    private readonly SemaphoreSlim fetching = new(1, 1);
    private Dictionary<string, ECDsa> keys = [];
    private DateTimeOffset fetched;

    /// <summary>The claims of a valid access token of an open session. `null` is no, whatever went wrong.</summary>
    public async Task<JsonElement?> Verify(string token)
    {
        try
        {
            // `typ` first: no other token of the service passes for an access token.
            if (await Claims(token, "at+jwt") is not { } claims || Text(claims, "aud") != audience) return null;
            var place = claims.GetProperty("status").GetProperty("status_list");
            var (index, bits) = (place.GetProperty("idx").GetInt32(), await Bits(place.GetProperty("uri").GetString()!));
            return (bits[index / 8] >> index % 8 & 1) == 0 ? claims : null;
        }
        catch (Exception error) when (error is HttpRequestException or OperationCanceledException or JsonException or KeyNotFoundException or FormatException
            or InvalidOperationException or InvalidDataException or IndexOutOfRangeException or CryptographicException) { return null; }
    }

    /// <summary>Claims of a token of this issuer that was signed with ES256, has this `typ`, and is valid now.</summary>
    private async Task<JsonElement?> Claims(string token, string type)
    {
        if (token.Length > 65536 || token.Split('.') is not [var head, var body, var signature]) return null;
        var header = JsonSerializer.Deserialize<JsonElement>(Base64Url.DecodeFromChars(head));
        if (Text(header, "alg") != "ES256" || Text(header, "typ") != type || Text(header, "kid") is not { } id || await Key(id) is not { } key) return null;
        if (!key.VerifyData(Encoding.ASCII.GetBytes($"{head}.{body}"), Base64Url.DecodeFromChars(signature), HashAlgorithmName.SHA256)) return null;
        var claims = JsonSerializer.Deserialize<JsonElement>(Base64Url.DecodeFromChars(body));
        var now = DateTimeOffset.UtcNow.ToUnixTimeSeconds();
        // A minute for the difference of the clocks where `nbf` is judged, and none where `exp` is.
        var isNow = now < claims.GetProperty("exp").GetInt64() && (!claims.TryGetProperty("nbf", out var begin) || begin.GetInt64() <= now + 60);
        return isNow && Text(claims, "iss") == issuer ? claims : null;
    }

    private static string? Text(JsonElement from, string name) => from.TryGetProperty(name, out var found) && found.ValueKind == JsonValueKind.String ? found.GetString() : null;

    /// <summary>A key that is not known may be a new one; strangers cannot make us ask all the time.</summary>
    private async Task<ECDsa?> Key(string id)
    {
        await fetching.WaitAsync();
        try
        {
            var age = DateTimeOffset.UtcNow - fetched;
            if (age > KeysLife || !keys.ContainsKey(id) && age > KeysPause)
            {
                fetched = DateTimeOffset.UtcNow;
                var set = JsonSerializer.Deserialize<JsonElement>(await http.GetStringAsync(issuer + "/.well-known/jwks.json"));
                keys = set.GetProperty("keys").EnumerateArray().Where(one => Text(one, "kty") == "EC" && Text(one, "crv") == "P-256").ToDictionary(one => Text(one, "kid")!, one => ECDsa.Create(new ECParameters
                {
                    Curve = ECCurve.NamedCurves.nistP256, Q = new() { X = Base64Url.DecodeFromChars(Text(one, "x")), Y = Base64Url.DecodeFromChars(Text(one, "y")) },
                }));
            }
            return keys.GetValueOrDefault(id);
        }
        finally { fetching.Release(); }
    }

    /// <summary>The bits of a status list (draft-ietf-oauth-status-list): 1 for a session that has ended.</summary>
    private async Task<byte[]> Bits(string address)
    {
        if (lists.TryGetValue(address, out var kept) && DateTimeOffset.UtcNow < kept.Until) return kept.Bits;
        if (!address.StartsWith(issuer + "/v1/status-lists/")) throw new InvalidDataException("not a list of this issuer");
        var claims = await Claims(await http.GetStringAsync(address), "statuslist+jwt");
        if (claims is not { } list || Text(list, "sub") != address) throw new InvalidDataException("not this list");
        var packed = list.GetProperty("status_list");
        if (packed.GetProperty("bits").GetInt32() != 1) throw new InvalidDataException("not one bit a session");
        using var inflate = new ZLibStream(new MemoryStream(Base64Url.DecodeFromChars(packed.GetProperty("lst").GetString())), CompressionMode.Decompress);
        var bits = new byte[MostBytes];
        bits = bits[..inflate.ReadAtLeast(bits, MostBytes, throwOnEndOfStream: false)];
        DateTimeOffset life = DateTimeOffset.UtcNow + ListLife, end = DateTimeOffset.FromUnixTimeSeconds(list.GetProperty("exp").GetInt64());
        lists[address] = (bits, life < end ? life : end);
        return bits;
    }
}
