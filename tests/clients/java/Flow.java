// The life of a link with the client of openapi-generator (`java`, library native: the JDK's own HTTP client as it comes).

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.time.OffsetDateTime;
import java.util.UUID;
import java.util.concurrent.Callable;
import org.openapitools.client.ApiClient;
import org.openapitools.client.ApiException;
import org.openapitools.client.api.AuditApi;
import org.openapitools.client.api.ConsultantsApi;
import org.openapitools.client.api.LandingPageApi;
import org.openapitools.client.api.MagicLinksApi;
import org.openapitools.client.api.SessionsApi;
import org.openapitools.client.model.*;

public class Flow {
    static boolean failed;
    static ConsultantResponse consultant;
    static LinkResponse link;
    static OpenedSession session;
    static String token;
    static String code;

    static void step(String name, Callable<Boolean> run) {
        String why = "not the answer that was expected";
        try {
            if (run.call()) {
                System.out.println("passed\t" + name);
                return;
            }
        } catch (Exception error) {
            why = String.valueOf(error).replace("\n", " ");
        }
        failed = true;
        System.out.println("failed\t" + name + "\t" + why);
    }

    static IssueLink grant(String ticket, int number) {
        return new IssueLink().tenantId("acme").portal("cloud").consultantId(consultant.getId()).ticket(ticket).access(Access.FULL)
            .reason("Payroll run for November stops at step 3").duration(new WindowLength().value(4L).unit(DurationUnit.HOURS))
            .profile(new Profile().id("emp-" + number).name("Asha Rao")).issuedBy(new Issuer().id("emp-7").name("Meera Iyer"));
    }

    static String mailedToken(String link) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create(System.getenv("CLIENTS_MAIL") + "/" + link)).build();
        return HttpClient.newHttpClient().send(request, BodyHandlers.ofString()).body();
    }

    static PageLinkResponse page(MagicLinksApi links, String cursor) throws ApiException {
        return links.listMagicLinks("acme", null, null, null, "active", "SUP-2", null, null, null, null, null, null, null, null, null, 2, cursor);
    }

    public static void main(String[] words) {
        ApiClient client = new ApiClient();
        client.updateBaseUri(System.getenv("CLIENTS_BASE"));
        client.setRequestInterceptor(request -> request.header("Authorization", "Bearer " + System.getenv("CLIENTS_KEY")));
        MagicLinksApi links = new MagicLinksApi(client);
        SessionsApi sessions = new SessionsApi(client);
        LandingPageApi landing = new LandingPageApi(client);
        AuditApi audit = new AuditApi(client);
        String key = UUID.randomUUID().toString();

        step("register a consultant", () -> {
            RegisterConsultant person = new RegisterConsultant().name("Ravi Kumar").email("ravi-" + UUID.randomUUID() + "@support.example");
            consultant = new ConsultantsApi(client).registerConsultant(person, null);
            return consultant.getState() == ConsultantState.ACTIVE;
        });
        step("issue a link", () -> {
            link = links.issueMagicLink(grant("SUP-1", 1042), key);
            return link.getState() == LinkState.ACTIVE;
        });
        step("issue it again with its key", () -> links.issueMagicLink(grant("SUP-1", 1042), key).getId().equals(link.getId()));
        step("read the link", () -> {
            LinkResponse read = links.getMagicLink(link.getId());
            return read.getProfile().getName().equals("Asha Rao") && read.getExpiresAt().isAfter(OffsetDateTime.now());
        });
        step("list with a filter, page by page", () -> {
            for (int number = 1; number <= 3; number++) {
                links.issueMagicLink(grant("SUP-2", number), null);
            }
            PageLinkResponse first = page(links, null);
            PageLinkResponse second = page(links, first.getNextCursor());
            return first.getItems().size() == 2 && second.getItems().size() == 1 && second.getNextCursor() == null;
        });
        step("preview the landing page", () -> {
            token = mailedToken(link.getId());
            return landing.previewLink(new LandingRequest().token(token)).getState() == LandingState.READY;
        });
        step("continue to the portal", () -> {
            code = landing.continueLink(new LandingRequest().token(token)).getRedirectUrl().replaceAll(".*[?&]code=([^&]+).*", "$1");
            return !code.isEmpty();
        });
        step("redeem the code", () -> {
            session = sessions.openSession(new OpenSession().token(code).visitor(new Visitor().address("203.0.113.7")), null);
            return !session.getAccessToken().isEmpty();
        });
        step("introspect, as a form", () -> {
            Introspection found = sessions.introspectToken(session.getAccessToken(), null, null, null);
            return found.getActive() && found.getSid().equals(session.getId()) && found.getAct().getSub().equals(consultant.getId());
        });
        step("report events", () -> {
            ActivityEvent event = new ActivityEvent().seq(1L).kind(ActivityKind.CHANGE).occurredAt(OffsetDateTime.now())
                .action("employee.salary.updated").resourceType("employee").resourceId("emp-9")
                .addChangesItem(new Change().field("basic").before("50000").after("52000"));
            return sessions.reportEvents(session.getId(), new ReportEvents().addEventsItem(event)).getRecorded() == 1;
        });
        step("end the session", () -> {
            SessionResponse ended = sessions.endSession(session.getId(), new EndSession().putSourcesItem("portal", 1L));
            return ended.getState() == SessionState.ENDED && ended.getAuditState() == AuditState.COMPLETE;
        });
        step("introspect after the end", () -> !sessions.introspectToken(session.getAccessToken(), null, null, null).getActive());
        step("revoke the link", () -> {
            RevokeLink request = new RevokeLink().reason("The work is done").requestedBy(new Person().id("emp-7").name("Meera Iyer"));
            return links.revokeMagicLink(link.getId(), request).getState() == LinkState.REVOKED;
        });
        step("revoke by ticket", () -> {
            CreateRevocation order = new CreateRevocation().tenantId("acme").ticket("SUP-2").reason("The ticket was closed");
            return links.createRevocation(order, null).getLinks() == 3;
        });
        step("read the audit log", () -> audit
            .listAuditEvents(null, null, link.getId(), null, null, null, null, null, null, null, null, null, null, null, 200, null)
            .getItems().stream().anyMatch(event -> event.getType() == EventType.MAGIC_LINK_REVOKED));
        step("read evidence", () -> audit.getEvidence(link.getId()).getEvidence() != null);
        step("read a checkpoint", () -> Files.readString(audit.getCheckpoint("acme").toPath()).contains("/audit/acme"));
        // Its exceptions carry the body as text: the client's own mapper and model read it.
        step("read the code of a refusal", () -> {
            try {
                links.getMagicLink("mlk_00000000000000000000000000");
                return false;
            } catch (ApiException refused) {
                Problem problem = client.getObjectMapper().readValue(refused.getResponseBody(), Problem.class);
                return problem.getCode() == ProblemCode.NOT_FOUND;
            }
        });
        step("read which field is wrong", () -> {
            try {
                links.issueMagicLink(grant("SUP-3", 4).reason("short"), null);
                return false;
            } catch (ApiException refused) {
                Problem problem = client.getObjectMapper().readValue(refused.getResponseBody(), Problem.class);
                return problem.getCode() == ProblemCode.VALIDATION_FAILED && problem.getErrors().get(0).getPointer().equals("/reason");
            }
        });
        System.exit(failed ? 1 : 0);
    }
}
