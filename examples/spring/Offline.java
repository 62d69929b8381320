// Verifies access tokens without asking the service on each request. Copy this file; it needs spring-boot-starter-oauth2-resource-server.
//
// A revocation is learned of when the status list is fetched again, a minute later at most. The guard asks instead.
package portal;

import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;
import java.time.Instant;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.zip.InflaterInputStream;
import org.springframework.security.oauth2.core.DelegatingOAuth2TokenValidator;
import org.springframework.security.oauth2.core.OAuth2Error;
import org.springframework.security.oauth2.core.OAuth2TokenValidator;
import org.springframework.security.oauth2.core.OAuth2TokenValidatorResult;
import org.springframework.security.oauth2.jose.jws.SignatureAlgorithm;
import org.springframework.security.oauth2.jwt.*;

public final class Offline {
    private static final int MOST_BYTES = 1 << 20;
    private static final OAuth2Error INVALID = new OAuth2Error("invalid_token");

    /** A list may be kept so long. */
    private record Kept(byte[] bits, Instant until) {}

    private final String issuer;
    private final JwtDecoder lists;
    private final Map<String, Kept> kept = new ConcurrentHashMap<>();
    private final HttpClient http = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).followRedirects(HttpClient.Redirect.NEVER).connectTimeout(Duration.ofSeconds(2)).build();

    private Offline(String issuer) {
        this.issuer = issuer;
        lists = decoder(issuer, "statuslist+jwt", List.of());
    }

    /** Takes access tokens of this issuer for this audience, as long as they are valid and their session is. */
    public static JwtDecoder decoder(String issuer, String audience) {
        var offline = new Offline(issuer);
        return decoder(issuer, "at+jwt", List.of(new JwtClaimValidator<List<String>>("aud", one -> one != null && one.contains(audience)), offline::isOpen));
    }

    private static NimbusJwtDecoder decoder(String issuer, String type, List<OAuth2TokenValidator<Jwt>> more) {
        // ES256 alone, and only the `typ` that is asked for: no token of the service passes for one of another kind.
        var decoder = NimbusJwtDecoder.withJwkSetUri(issuer + "/.well-known/jwks.json").jwsAlgorithm(SignatureAlgorithm.ES256).validateType(false).build();
        // A minute for the difference of the clocks where `nbf` is judged, and none where `exp` is.
        OAuth2TokenValidator<Jwt> end = token -> result(token.getExpiresAt() != null && Instant.now().isBefore(token.getExpiresAt()));
        var first = new DelegatingOAuth2TokenValidator<>(new JwtTypeValidator(type), new JwtIssuerValidator(issuer), new JwtTimestampValidator(Duration.ofSeconds(60)), end);
        var then = new DelegatingOAuth2TokenValidator<>(more);
        decoder.setJwtValidator(token -> {
            var found = first.validate(token);
            return found.hasErrors() ? found : then.validate(token);    // no list is fetched for a token that is none
        });
        return decoder;
    }

    private static OAuth2TokenValidatorResult result(boolean isGood) {
        return isGood ? OAuth2TokenValidatorResult.success() : OAuth2TokenValidatorResult.failure(INVALID);
    }

    /** The bit of the session: 0 as long as it is open (draft-ietf-oauth-status-list). Whatever goes wrong means no. */
    private OAuth2TokenValidatorResult isOpen(Jwt token) {
        try {
            var place = (Map<?, ?>) token.getClaimAsMap("status").get("status_list");
            var index = ((Number) place.get("idx")).intValue();
            var octet = bits((String) place.get("uri"))[index / 8];
            return result((octet >> index % 8 & 1) == 0);
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
            return result(false);
        } catch (IOException | RuntimeException error) { return result(false); }
    }

    private byte[] bits(String uri) throws IOException, InterruptedException {
        var known = kept.get(uri);
        if (known != null && Instant.now().isBefore(known.until)) return known.bits;
        if (!uri.startsWith(issuer + "/v1/status-lists/")) throw new IOException("not a list of this issuer");
        var answer = http.send(HttpRequest.newBuilder(URI.create(uri)).timeout(Duration.ofSeconds(5)).build(), HttpResponse.BodyHandlers.ofString());
        if (answer.statusCode() != 200) throw new IOException("no list: " + answer.statusCode());
        var list = lists.decode(answer.body());
        if (!uri.equals(list.getSubject())) throw new IOException("another list");
        var packed = list.getClaimAsMap("status_list");
        if (((Number) packed.get("bits")).intValue() != 1) throw new IOException("not one bit a session");
        var text = new ByteArrayInputStream(Base64.getUrlDecoder().decode((String) packed.get("lst")));
        var bits = new InflaterInputStream(text).readNBytes(MOST_BYTES);
        var until = Instant.now().plusSeconds(Math.min(60, ((Number) list.getClaim("ttl")).longValue()));
        kept.put(uri, new Kept(bits, until.isBefore(list.getExpiresAt()) ? until : list.getExpiresAt()));
        return bits;
    }
}
