// The guard: lets support consultants into a Spring portal through Magic Link. Copy this file; the README says how.
//
// Its numbers are those of the rules in examples/portal/README.md. State is in memory: with several copies of the portal, put
// sessions, arrivals and owed into the store that they share, and draw the numbers of reports there under a lock.
package portal;

import com.fasterxml.jackson.annotation.JsonInclude;
import com.fasterxml.jackson.databind.*;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import jakarta.servlet.*;
import jakarta.servlet.http.*;
import java.io.IOException;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.security.*;
import java.time.*;
import java.time.temporal.ChronoUnit;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Predicate;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.springframework.beans.factory.DisposableBean;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.context.annotation.Bean;
import org.springframework.core.annotation.Order;
import org.springframework.http.*;
import org.springframework.security.authentication.AbstractAuthenticationToken;
import org.springframework.security.config.annotation.web.builders.HttpSecurity;
import org.springframework.security.config.annotation.web.configurers.AbstractHttpConfigurer;
import org.springframework.security.config.http.SessionCreationPolicy;
import org.springframework.security.core.authority.AuthorityUtils;
import org.springframework.security.core.context.*;
import org.springframework.security.web.SecurityFilterChain;
import org.springframework.security.web.access.intercept.AuthorizationFilter;
import org.springframework.web.bind.annotation.*;
import org.springframework.web.filter.OncePerRequestFilter;
import org.springframework.web.util.HtmlUtils;

@RestController
@RestControllerAdvice
public class MagicLink implements DisposableBean {
    private static final Logger LOG = LoggerFactory.getLogger(MagicLink.class);
    private static final Duration PATIENCE = Duration.ofMinutes(10);    // to say yes on the arrival page
    private static final Duration LATE = Duration.ofHours(72);          // how long the service takes reports after the end
    private static final Duration SLOW = Duration.ofSeconds(1);         // a report that took longer is asked about again
    private static final int LARGEST_MESSAGE = 64 * 1024;
    private static final int PERSONS = 100;                             // whom one event names at most
    private static final SecureRandom RANDOM = new SecureRandom();
    private static final ObjectMapper JSON = JsonMapper.builder().propertyNamingStrategy(PropertyNamingStrategies.SNAKE_CASE)
        .disable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES).build();

    public record Person(String id, String name) {}
    public record Change(String field, String before, String after) {}
    @JsonInclude(JsonInclude.Include.NON_NULL)
    public record Act(String kind, String action, String resourceType, String resourceId, String principalId, String category, List<Change> changes, List<String> principalIds) {
        public Act(String kind, String action, String resourceType, String resourceId, String principalId, String category, List<Change> changes) {
            this(kind, action, resourceType, resourceId, principalId, category, changes, null);
        }
        Act about(List<String> persons) { return new Act(kind, action, resourceType, resourceId, principalId, category, changes, persons); }
    }
    record Numbered(long seq, Instant occurredAt, Act act) {}
    record Opened(String id, String magicLinkId, String tenantId, String portal, String accessToken, String expiresAt, Person profile, Person consultant) {}

    /** The service said no, and nothing happened there. */
    static final class Refused extends Exception {
        final int status; final String code;
        Refused(int status, String code) { super(status + " " + code); this.status = status; this.code = code; }
    }

    /** No usable answer: the service may have acted or not. */
    static final class NoVerdict extends Exception { NoVerdict(String what) { super(what); } }

    /** A request ends with a notice instead of its page. */
    public static final class Stop extends RuntimeException {
        final int status; final String mark, text;
        public Stop(int status, String mark, String title, String text) { super(title); this.status = status; this.mark = mark; this.text = text; }
        static Stop ended() { return new Stop(403, "ended", "Access has ended", "Its time is up, it was ended, or this browser never had it."); }
        static Stop unknown() { return new Stop(503, "unavailable", "Access cannot be checked right now", "Nobody is let in without the word of the service. Try again in a moment."); }
        static Stop unrecorded() { return new Stop(503, "unavailable", "This could not be recorded", "Nothing happens without a record, so nothing happened. Try again in a moment."); }
        static Stop unrecordable(String code) { return new Stop(422, "refused", "This cannot be recorded", "Nothing happens without a record, so nothing happened. The service refuses what it would say (" + code + "), and will refuse the same again."); }
        static Stop elsewhere() { return new Stop(403, "refused", "This was asked for by another site", "Nothing was shown or changed. Ask for it on a page of this portal."); }
        static Stop unseen() { return new Stop(405, "refused", "This is shown to nobody", "Nothing was done. Ask for it with GET."); }
        static Stop ahead() { return new Stop(503, "unavailable", "This is not fetched ahead", "Nothing was done. It is shown when it is asked for."); }
        static Stop unreadable() { return new Stop(400, "refused", "This request cannot be read", "Go back, reload the page and try again."); }
        static Stop twice() { return new Stop(403, "refused", "This browser holds two sessions", "Another site may have put one of them here. Delete the cookies of this site, and use the link in your mail again."); }
        static Stop superseded() { return new Stop(403, "refused", "This question is not open any more", "Nobody was signed in. Use the link in your mail again."); }
        public static Stop noSuchPage() { return new Stop(404, "refused", "There is no such page", ""); }
    }

    /** What a code bought, and the numbered report of what was done with it. */
    static final class Session {
        final String tenant, question = random();
        final Opened opened;
        final Instant expiresAt, until;
        final ReentrantLock lock = new ReentrantLock(true);
        volatile boolean closed, done;
        String key;         // of the cookie, once the visitor has said yes
        long lastSeq;
        Numbered unsettled;

        Session(String tenant, Opened opened) {
            this.tenant = tenant; this.opened = opened; expiresAt = Instant.parse(opened.expiresAt);
            until = Collections.min(List.of(Instant.now().plus(PATIENCE), expiresAt));
        }
    }

    /** Somebody whom the service confirmed during this very request: the principal of the security context. */
    public final class Visitor extends AbstractAuthenticationToken {
        private final transient Session session;
        private final boolean isFromHere;
        private transient JsonNode token;

        Visitor(Session session, JsonNode token, boolean isFromHere) {
            super(AuthorityUtils.createAuthorityList("ROLE_SUPPORT"));
            this.session = session; this.token = token; this.isFromHere = isFromHere;
            setAuthenticated(true);
        }

        @Override public Object getPrincipal() { return session.opened.profile; }
        @Override public Object getCredentials() { return ""; }
        @Override public String getName() { return session.opened.profile.name; }
        private boolean isReadOnly() { return !"full".equals(token.path("access").asText()); }
        private Instant end() { return Instant.ofEpochSecond(token.path("exp").asLong()); }
        private List<String> words(String member) { var words = new ArrayList<String>(); token.path(member).forEach(word -> words.add(word.asText())); return words; }

        /** The one place where `access`, `modules` and `forbidden` are kept to (rule 12), and what another site may not start (rule 17). */
        private void allow(String module, Act act) {
            if (act.kind.equals("export") && !isFromHere) throw Stop.elsewhere();
            var why = isReadOnly() && act.kind.equals("change") ? "It is read only: you can look, but not change anything."
                : token.has("modules") && !words("modules").contains(module) ? "It does not reach into this part of the portal."
                : words("forbidden").contains(act.category) || act.kind.equals("export") && words("forbidden").contains("export") ? "The company has left out what you tried." : null;
            if (why != null) throw new Stop(403, "refused", "This access does not include that", why);
        }

        /** Whether the visitor may still do it, now: since they were let in, the request has waited, or came to its end (rule 6). */
        private void askAgain(String module, Act act) {
            if (session.closed) throw Stop.ended();
            token = introspect(session);
            allow(module, act);
        }

        private boolean isOver() { var now = Instant.now(); return !now.isBefore(end()) || !now.isBefore(session.expiresAt); }

        /**
         * Records an act of a part of the portal. Show or do it only after this returns (rule 8), with no pause in between, and wait for locks of your own before.
         * It names everybody whose data it is: one person in `principalId`, several in `principalIds`.
         */
        public void report(String module, Act act) {
            var persons = act.principalIds;
            if (persons == null || persons.size() <= PERSONS) { reportOne(module, act); return; }
            for (var first = 0; first < persons.size(); first += PERSONS) {
                reportOne(module, act.about(List.copyOf(persons.subList(first, Math.min(first + PERSONS, persons.size())))));
            }
        }

        private void reportOne(String module, Act act) {
            if (!StandardCharsets.UTF_8.newEncoder().canEncode(JSON.valueToTree(act).toString())) throw Stop.unreadable();     // a lone surrogate
            session.lock.lock();
            try {
                // The same act once more is the retry of the one that was left open: same number, same content (rule 9).
                var isRetry = session.unsettled != null && session.unsettled.act.equals(act);
                if (!isRetry) settle(session);
                var asked = System.nanoTime();
                askAgain(module, act);
                if (!isRetry) number(session, act);
                deliver(session);
                if (System.nanoTime() - asked > SLOW.toNanos() || isOver()) {
                    // Of a change, the way back: noted before asking, whatever becomes of that, and forgotten if it is made after all.
                    takeBack(session, act);
                    try { askAgain(module, act); }
                    catch (Stop no) {       // a change is not made: the record says so, now or with the next act or the count
                        try { settle(session); }
                        catch (NoVerdict error) { LOG.warn("Session {}: not taken back yet: {}", session.opened.id, error.getMessage()); }
                        throw no;
                    }
                    session.unsettled = null;
                }
            } catch (Refused | NoVerdict error) {
                LOG.warn("Session {}: not recorded: {}", session.opened.id, error.getMessage());
                // What is wrong with the key is nothing that the visitor could change.
                throw error instanceof Refused refused && !Set.of(401, 403).contains(refused.status) ? Stop.unrecordable(refused.code) : Stop.unrecorded();
            } finally { session.lock.unlock(); }
        }

        /** Who acts, as whom, until when (rule 11). */
        public String banner() {
            var facts = new ArrayList<String>();
            if (isReadOnly()) facts.add("Read only");
            if (token.has("modules")) facts.add("Only in: " + String.join(", ", words("modules")));
            if (token.has("forbidden")) facts.add("Not included: " + String.join(", ", words("forbidden")).replace('_', ' '));
            facts.add("Everything is recorded");
            return """
                <section id="acting-as" data-act="%s"><p><strong>%s</strong> (support) is acting as <strong>%s</strong>
                until <time datetime="%s">%s</time>. %s.</p>
                <form method="post" action="%sdone"><button id="done">I am done</button></form></section>
                """.formatted(escape(token.path("act").path("sub").asText()), escape(session.opened.consultant.name), escape(getName()), end(), people(end()),
                    escape(String.join(". ", facts)), root(session.tenant));
        }

        /** `body` is HTML. The page asks again when the visitor's time is up. */
        public ResponseEntity<String> page(String mark, String title, String body) {
            var seconds = Math.max(1, Duration.between(Instant.now(), end()).toSeconds() + 1);
            return html(200, mark, title, "<meta http-equiv=\"refresh\" content=\"" + seconds + "\">", banner(), body);
        }
    }

    private final String portal, publicUrl, secret, key;
    private final URI service;
    // HTTP/1.1: it keeps its connections, and asks for no upgrade. No redirects: they would carry the key to an address nobody configured.
    private final HttpClient http = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).followRedirects(HttpClient.Redirect.NEVER).connectTimeout(Duration.ofSeconds(2)).build();
    private final Map<String, Session> sessions = new ConcurrentHashMap<>(), arrivals = new ConcurrentHashMap<>();
    private final Set<Session> owed = ConcurrentHashMap.newKeySet();    // closing counts that the service has not taken yet
    private final ScheduledExecutorService sweeper = Executors.newSingleThreadScheduledExecutor();

    MagicLink(@Value("${magic-link.service}") URI service, @Value("${magic-link.key}") String key, @Value("${magic-link.public-url}") String publicUrl,
              @Value("${magic-link.portal}") String portal, @Value("${magic-link.webhook-secret:}") String secret) {
        this.service = service; this.key = key; this.publicUrl = publicUrl.replaceAll("/$", ""); this.portal = portal; this.secret = secret;
        sweeper.scheduleWithFixedDelay(this::sweep, 1, 1, TimeUnit.SECONDS);
    }

    @Override public void destroy() { sweeper.shutdownNow(); }

    // --- the conversation with the service ---

    /** POST, repeated once where the first attempt brought no verdict. `unclear`: a refusal of the repeat does not tell that the first attempt was not taken. */
    private JsonNode call(String path, String type, String body, String idempotencyKey, boolean unclear) throws Refused, NoVerdict {
        var request = HttpRequest.newBuilder(service.resolve(path)).timeout(Duration.ofSeconds(5)).header("Authorization", "Bearer " + key)
            .header("Content-Type", type).POST(HttpRequest.BodyPublishers.ofString(body));
        if (idempotencyKey != null) request.header("Idempotency-Key", idempotencyKey);
        for (var attempt = 1; ; attempt++) {
            String failure;
            long pause = 0;
            try {
                var answer = http.send(request.build(), HttpResponse.BodyHandlers.ofString());
                var status = answer.statusCode();
                if (status / 100 == 2) return JSON.readTree(answer.body());
                var wait = answer.headers().firstValue("Retry-After");
                if (status < 500 && !(wait.isPresent() && (status == 409 || status == 429))) {
                    if (unclear && attempt > 1) throw new NoVerdict(path + ": refused after no verdict: " + status);
                    throw new Refused(status, codeOf(answer.body()));
                }
                failure = path + ": " + status;
                pause = wait.filter(text -> text.matches("[0-9]")).map(Long::parseLong).orElse(1L);
            } catch (IOException error) {
                failure = path + ": " + error.getClass().getSimpleName();
            } catch (InterruptedException error) {
                Thread.currentThread().interrupt();
                throw new NoVerdict(path + ": interrupted");
            }
            if (attempt > 1) throw new NoVerdict(failure);
            try { Thread.sleep(Math.min(pause, 2) * 1000); } catch (InterruptedException error) { Thread.currentThread().interrupt(); }
        }
    }

    private JsonNode call(String path, ObjectNode body, String idempotencyKey, boolean unclear) throws Refused, NoVerdict {
        return call(path, MediaType.APPLICATION_JSON_VALUE, body.toString(), idempotencyKey, unclear);
    }

    /** The stable code of a problem (RFC 9457). */
    private static String codeOf(String body) {
        try { return JSON.readTree(body).path("code").asText(); } catch (IOException error) { return ""; }
    }

    private static void number(Session session, Act act) { session.unsettled = new Numbered(session.lastSeq + 1, Instant.now().truncatedTo(ChronoUnit.MILLIS), act); }

    private void deliver(Session session) throws Refused, NoVerdict {
        var event = session.unsettled;
        ObjectNode numbered = JSON.valueToTree(event.act);
        numbered.put("seq", event.seq).put("source", "portal").put("occurred_at", event.occurredAt.toString());
        var body = JSON.createObjectNode();
        body.putArray("events").add(numbered);
        try { call("/v1/sessions/" + session.opened.id + "/events", body, null, true); }
        catch (Refused error) { session.unsettled = null; throw error; }    // surely not taken: its number is free
        session.lastSeq = event.seq;
        session.unsettled = null;
    }

    /** Clears up what an earlier attempt left open. Its act was never done: for a change, the way back is recorded too. */
    private void settle(Session session) throws NoVerdict {
        while (session.unsettled != null) {
            var act = session.unsettled.act;
            try { deliver(session); }
            catch (Refused error) { return; }       // it left no trace, and holds nothing else up
            takeBack(session, act);
        }
    }

    /** Of what was recorded and not done: for a change, the way back. */
    private static void takeBack(Session session, Act act) {
        if (!act.kind.equals("change") || act.action.equals("change.not_applied")) return;
        var back = act.changes == null ? null : act.changes.stream().map(one -> new Change(one.field, one.after, one.before)).toList();
        number(session, new Act(act.kind, "change.not_applied", act.resourceType, act.resourceId, act.principalId, act.category, back, act.principalIds));
    }

    /** Ends the session with its count (rule 10). What the service does not take now is sent again by the sweep. */
    private void close(Session session) {
        session.closed = true;
        owed.add(session);
        session.lock.lock();
        try {
            settle(session);
            var body = JSON.createObjectNode().put("consultant_done", session.done);
            body.putObject("sources").put("portal", session.lastSeq);
            call("/v1/sessions/" + session.opened.id + "/end", body, null, false);
            owed.remove(session);
        } catch (Refused | NoVerdict error) {
            var isOver = error instanceof Refused refused && (Set.of(404, 409, 410).contains(refused.status) || Instant.now().isAfter(session.expiresAt.plus(LATE)));
            if (isOver) owed.remove(session); else LOG.warn("Session {}: not closed yet: {}", session.opened.id, error.getMessage());
        } finally { session.lock.unlock(); }
    }

    /** Out here at once; the service hears of it a moment later. */
    private void forget(Predicate<Session> chosen) {
        sessions.forEach((key, session) -> { if (chosen.test(session) && sessions.remove(key, session)) owed.add(session); });
    }

    private void sweep() {
        try {
            var now = Instant.now();
            forget(session -> !session.expiresAt.isAfter(now));
            arrivals.forEach((key, session) -> { if (!session.until.isAfter(now) && arrivals.remove(key, session) && session.key == null) owed.add(session); });
            owed.forEach(this::close);
        } catch (RuntimeException error) { LOG.error("The sweep failed", error); }  // or it would never come again
    }

    // --- the guard ---

    /** Everything below the portal's path needs a visitor, but for the way in and out. Spring's own CSRF token is replaced by `ownForm`. */
    @Bean @Order(0)
    SecurityFilterChain magicLinkChain(HttpSecurity http) throws Exception {
        var at = "/*/" + portal;
        return http.securityMatcher(at + "/**", "/webhooks/magic-link").csrf(AbstractHttpConfigurer::disable).requestCache(AbstractHttpConfigurer::disable)
            .sessionManagement(one -> one.sessionCreationPolicy(SessionCreationPolicy.STATELESS)).logout(AbstractHttpConfigurer::disable)
            // The address of the callback holds the code, and nobody may learn it. Elsewhere `no-referrer` would make the
            // browser send `Origin: null` with our own forms. `no-store` and `nosniff` are Spring's own.
            .headers(one -> one.contentSecurityPolicy(csp -> csp.policyDirectives("default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"))
                .addHeaderWriter((request, response) -> response.setHeader("Referrer-Policy", request.getServletPath().endsWith("/callback") ? "no-referrer" : "same-origin")))
            .addFilterBefore(new OncePerRequestFilter() {
                @Override protected void doFilterInternal(HttpServletRequest request, HttpServletResponse response, FilterChain chain) throws ServletException, IOException {
                    try { SecurityContextHolder.setContext(new SecurityContextImpl(admit(request))); }
                    catch (Stop stop) { request.setAttribute("stop", stop); }
                    chain.doFilter(request, response);
                }
            }, AuthorizationFilter.class)
            .exceptionHandling(one -> one.authenticationEntryPoint((request, response, error) -> {
                var page = notice(request.getAttribute("stop") instanceof Stop stop ? stop : Stop.ended());
                response.setStatus(page.getStatusCode().value());
                page.getHeaders().forEach((name, values) -> values.forEach(value -> response.addHeader(name, value)));
                response.getOutputStream().write(page.getBody().getBytes(StandardCharsets.UTF_8));
            }))
            .authorizeHttpRequests(one -> one.requestMatchers(at + "/callback", at + "/arrival", at + "/done", "/webhooks/magic-link").permitAll()
                .anyRequest().hasRole("SUPPORT")).build();
    }

    private Visitor admit(HttpServletRequest request) {
        var tenant = request.getServletPath().split("/", 3)[1];
        seen(request);
        if (!request.getMethod().equals("GET")) ownForm(request);
        var session = mine(request, tenant);
        if (session == null) throw Stop.ended();
        return new Visitor(session, introspect(session), isFromHere(request));
    }

    /** The clear yes of the service, now (rule 6). */
    private JsonNode introspect(Session session) {
        if (Instant.now().isBefore(session.expiresAt)) {
            JsonNode token;
            try { token = call("/v1/introspect", MediaType.APPLICATION_FORM_URLENCODED_VALUE, "token=" + URLEncoder.encode(session.opened.accessToken, StandardCharsets.UTF_8), null, false); }
            catch (Refused | NoVerdict error) { LOG.warn("Session {}: not checked: {}", session.opened.id, error.getMessage()); throw Stop.unknown(); }
            var active = token.path("active");
            // Without grace: the end that the company was told is the end.
            var isOver = active.isBoolean() && active.booleanValue() && token.path("exp").isIntegralNumber() && Instant.now().getEpochSecond() >= token.path("exp").asLong();
            if (active.isBoolean() && active.booleanValue() && !isOver && isOf(token, session)) return token;
            if (!(active.isBoolean() && !active.booleanValue()) && !isOver) throw Stop.unknown();   // neither yes nor no
        }
        forget(one -> one == session);
        throw Stop.ended();
    }

    /** Rules 3 and 6: of this session, this tenant and this portal. */
    private boolean isOf(JsonNode token, Session session) {
        return token.path("sid").asText().equals(session.opened.id) && token.path("tenant_id").asText().equals(session.tenant) && token.path("portal").asText().equals(portal)
            && token.path("sub").asText().equals(session.opened.profile.id) && token.path("act").path("sub").asText().equals(session.opened.consultant.id) && token.path("exp").isIntegralNumber();
    }

    /** Only forms of our own pages (rule 15). */
    private void ownForm(HttpServletRequest request) {
        var site = request.getHeader("Sec-Fetch-Site");
        if (!(site == null ? publicUrl.equals(request.getHeader("Origin")) : site.equals("same-origin"))) throw Stop.elsewhere();
    }

    /** Whether a page of ours or the visitor's own typing asks for it (rule 17). Who does not say passes, for a form is asked more strictly. */
    private boolean isFromHere(HttpServletRequest request) {
        String site = request.getHeader("Sec-Fetch-Site"), origin = request.getHeader("Origin");
        return site == null ? origin == null || origin.equals(publicUrl) : Set.of("same-origin", "none").contains(site);
    }

    /** Nothing is done for what nobody may ever see (rule 17). */
    private static void seen(HttpServletRequest request) {
        if (request.getMethod().equals("HEAD")) throw Stop.unseen();
        if (Stream.of("Sec-Purpose", "Purpose", "X-Moz").map(request::getHeader).anyMatch(said -> said != null && said.toLowerCase(Locale.ROOT).contains("prefetch"))) throw Stop.ahead();
    }

    /** The path of this tenant's pages, and of its cookies (rule 5). */
    public String root(String tenant) {
        if (!Pattern.matches("[A-Za-z0-9][A-Za-z0-9._-]{0,63}", tenant)) throw Stop.noSuchPage();
        return "/" + tenant + "/" + portal + "/";
    }

    private Session mine(HttpServletRequest request, String tenant) {
        var session = sessions.get(cookie(request, "portal_session"));
        return session != null && session.tenant.equals(tenant) ? session : null;
    }

    /** A cookie of ours. Of two that differ nobody's: any host above or beside this one could have set one (rule 5). */
    private static String cookie(HttpServletRequest request, String name) {
        var values = Stream.ofNullable(request.getCookies()).flatMap(Arrays::stream).filter(one -> one.getName().equals(name)).map(Cookie::getValue).distinct().toList();
        if (values.size() > 1) throw Stop.twice();
        return values.isEmpty() ? "" : values.get(0);
    }

    private ResponseEntity<String> withCookie(ResponseEntity<String> answer, String tenant, String name, String value, Duration life) {
        // Lax: Strict would be held back on the way in.
        var cookie = ResponseCookie.from(name, value).maxAge(life.isNegative() ? Duration.ZERO : life).path(root(tenant)).httpOnly(true).sameSite("Lax").secure(publicUrl.startsWith("https:")).build();
        return ResponseEntity.status(answer.getStatusCode()).headers(answer.getHeaders()).header(HttpHeaders.SET_COOKIE, cookie.toString()).body(answer.getBody());
    }

    // --- the way in and out ---

    /** Redeems the code. Nobody is signed in yet (rule 16). Spring answers HEAD with a GET mapping, and a HEAD must not spend the code (rule 1). */
    @RequestMapping(path = "/{tenant}/${magic-link.portal}/callback", method = {RequestMethod.GET, RequestMethod.HEAD})
    ResponseEntity<String> callback(HttpServletRequest request, @PathVariable("tenant") String tenant, @RequestParam(name = "code", defaultValue = "") String code) throws IOException {
        seen(request);
        var root = root(tenant);
        var agent = Objects.requireNonNullElse(request.getHeader("User-Agent"), "");
        var body = JSON.createObjectNode().put("token", code);
        body.putObject("visitor").put("address", request.getRemoteAddr()).put("user_agent", agent.substring(0, Math.min(256, agent.length())));
        Opened opened;
        try { opened = JSON.treeToValue(call("/v1/sessions", body, random(), false), Opened.class); }
        catch (Refused error) {
            if (Set.of(400, 404, 409, 410).contains(error.status))
                throw new Stop(error.status, "refused", "This link opens nothing", "The service says: " + error.code + ". Use the link in your mail again: its page can e-mail you a fresh one.");
            LOG.warn("A code was not redeemed: {}", error.getMessage());
            throw Stop.unknown();
        } catch (NoVerdict error) { LOG.warn("A code was not redeemed: {}", error.getMessage()); throw Stop.unknown(); }
        var session = new Session(tenant, opened);
        if (!opened.tenantId.equals(tenant) || !opened.portal.equals(portal)) {
            owed.add(session);      // somebody else's door: ended, not used
            throw new Stop(404, "refused", "This link belongs to another portal", "");
        }
        var key = random();
        arrivals.put(key, session);
        return withCookie(seeOther(root + "arrival"), tenant, "portal_arrival", key, PATIENCE);
    }

    private Session arrival(HttpServletRequest request, String tenant) {
        var session = arrivals.get(cookie(request, "portal_arrival"));
        if (session == null || !session.tenant.equals(tenant) || !session.until.isAfter(Instant.now())) throw Stop.superseded();
        return session;
    }

    /** Asks whether the visitor is who the code says. */
    @GetMapping("/{tenant}/${magic-link.portal}/arrival")
    ResponseEntity<String> ask(HttpServletRequest request, @PathVariable("tenant") String tenant) {
        String root = root(tenant), profile, ends;
        Session session = arrival(request, tenant), current = mine(request, tenant);
        if (session.key != null) throw Stop.superseded();
        profile = escape(session.opened.profile.name);
        ends = current == null ? "" : "<p>This ends the session of " + escape(current.opened.consultant.name) + " in this browser.</p>";
        return html(200, "arrival", "Continue as " + session.opened.profile.name + "?", "", "", """
            <p>You are <strong>%s</strong> (support), and would act as <strong>%s</strong> until %s. Everything is recorded under your name.</p>%s
            <form method="post" action="%sarrival"><input type="hidden" name="question" value="%s">
            <button id="arrive" name="answer" value="yes">Continue as %s</button> <button id="decline" name="answer" value="no">That is not me</button></form>
            """.formatted(escape(session.opened.consultant.name), profile, people(session.expiresAt), ends, root, session.question, profile));
    }

    /** Yes starts the session, under a fresh id (rule 4), and ends the one before it. No ends what the code opened. */
    @PostMapping("/{tenant}/${magic-link.portal}/arrival")
    ResponseEntity<String> answer(HttpServletRequest request, @PathVariable("tenant") String tenant, @RequestParam("question") String question, @RequestParam("answer") String answer) {
        ownForm(request);
        var session = arrival(request, tenant);
        var yes = answer.equals("yes");
        synchronized (session) {    // a double click gets the same answer
            if (!question.equals(session.question) || session.key != null && !yes) throw Stop.superseded();
            if (!yes) {
                if (!arrivals.values().remove(session)) throw Stop.superseded();
            } else if (session.key == null) {
                var earlier = mine(request, tenant);
                session.key = random();
                sessions.put(session.key, session);
                forget(one -> one == earlier);
            }
        }
        if (yes) return withCookie(seeOther(root(tenant)), tenant, "portal_session", session.key, Duration.between(Instant.now(), session.expiresAt));
        close(session);
        return html(200, "refused", "Nobody was signed in", "", "", "<p>What the link opened was ended. If you opened no link, tell your security contact.</p>");
    }

    /** I am done. */
    @PostMapping("/{tenant}/${magic-link.portal}/done")
    ResponseEntity<String> finish(HttpServletRequest request, @PathVariable("tenant") String tenant) {
        ownForm(request);
        var session = mine(request, tenant);
        if (session == null) throw Stop.ended();
        session.done = true;        // before the sweep can see it
        forget(one -> one == session);
        close(session);
        return withCookie(html(200, "goodbye", "Your support session is over", "", "", "<p>Thank you. You can close this page.</p>"), tenant, "portal_session", "", Duration.ZERO);
    }

    /** Messages of the service: what has ended is forgotten at once, and its record closed. */
    @PostMapping("/webhooks/magic-link")
    ResponseEntity<Void> webhook(HttpServletRequest request, @RequestHeader HttpHeaders headers) throws IOException {
        var body = request.getInputStream().readNBytes(LARGEST_MESSAGE + 1);
        if (body.length > LARGEST_MESSAGE) return ResponseEntity.status(413).build();
        if (secret.isEmpty() || !verified(secret, headers, body, Instant.now())) return ResponseEntity.status(401).build();
        JsonNode message = JSON.readTree(body), data = message.path("data");
        String type = message.path("type").asText(), link = data.path("magic_link_id").asText();
        // Whatever its sequence: what has ended never begins again, so a repeat or a late message finds nothing to forget.
        if (type.equals("session.ended")) forget(session -> session.opened.id.equals(data.path("session_id").asText()));
        else if (Set.of("magic_link.revoked", "magic_link.replaced", "magic_link.expired").contains(type)) forget(session -> session.opened.magicLinkId.equals(link));
        return ResponseEntity.noContent().build();
    }

    /** Standard Webhooks 1.0: HMAC-SHA256 over id, time and the bytes as they came; five minutes either way. */
    static boolean verified(String secret, HttpHeaders headers, byte[] body, Instant now) {
        String id = first(headers, "webhook-id"), sent = first(headers, "webhook-timestamp"), given = first(headers, "webhook-signature");
        if (id.isEmpty() || !sent.matches("[0-9]{1,12}") || Math.abs(now.getEpochSecond() - Long.parseLong(sent)) > 300) return false;
        try {
            var mac = Mac.getInstance("HmacSHA256");
            mac.init(new SecretKeySpec(Base64.getDecoder().decode(secret.replaceFirst("^whsec_", "")), "HmacSHA256"));
            mac.update((id + "." + sent + ".").getBytes(StandardCharsets.UTF_8));
            var wanted = ("v1," + Base64.getEncoder().encodeToString(mac.doFinal(body))).getBytes(StandardCharsets.UTF_8);
            return Arrays.stream(given.split(" ")).anyMatch(one -> MessageDigest.isEqual(wanted, one.getBytes(StandardCharsets.UTF_8)));
        } catch (GeneralSecurityException error) { return false; }
    }

    // --- what the answers share ---

    private static String first(HttpHeaders headers, String name) { return Objects.requireNonNullElse(headers.getFirst(name), ""); }
    private static String random() { var bytes = new byte[32]; RANDOM.nextBytes(bytes); return HexFormat.of().formatHex(bytes); }
    public static String escape(String text) { return HtmlUtils.htmlEscape(text, "UTF-8"); }
    private static String people(Instant at) { return at.toString().substring(0, 16).replace('T', ' ') + " UTC"; }
    public static ResponseEntity<String> seeOther(String address) { return ResponseEntity.status(303).location(URI.create(address)).build(); }

    private static ResponseEntity<String> html(int status, String mark, String title, String head, String banner, String body) {
        var text = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">" + head + "<title>" + escape(title) + "</title></head>\n<body data-page=\"" + mark + "\">"
            + banner + "<main><h1>" + escape(title) + "</h1>" + body + "</main></body></html>";
        return ResponseEntity.status(status).contentType(new MediaType(MediaType.TEXT_HTML, StandardCharsets.UTF_8)).body(text);
    }

    @ExceptionHandler
    ResponseEntity<String> notice(Stop stop) {
        var page = html(stop.status, stop.mark, stop.getMessage(), "", "", "<p>" + escape(stop.text) + "</p>");
        var more = stop.status == 503 ? Map.of(HttpHeaders.RETRY_AFTER, "5") : stop.status == 405 ? Map.of(HttpHeaders.ALLOW, "GET") : Map.<String, String>of();
        return ResponseEntity.status(stop.status).headers(page.getHeaders()).headers(headers -> more.forEach(headers::set)).body(page.getBody());
    }
}
