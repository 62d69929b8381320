// `TryOffline ISSUER AUDIENCE`: a token on each line in, `yes` or `no` on each line out.
package portal;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import org.springframework.security.oauth2.jwt.JwtException;

public final class TryOffline {
    public static void main(String[] arguments) throws Exception {
        var decoder = Offline.decoder(arguments[0], arguments[1]);
        var lines = new BufferedReader(new InputStreamReader(System.in));
        for (var line = lines.readLine(); line != null; line = lines.readLine()) {
            var said = "yes";
            try { decoder.decode(line); } catch (JwtException error) { said = "no"; }
            System.out.println(said);
        }
    }
}
