// A make-believe portal behind the guard: `mvn spring-boot:run`. All data is invented, and gone on restart.
package portal;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.Function;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.boot.autoconfigure.security.servlet.UserDetailsServiceAutoConfiguration;
import org.springframework.http.MediaType;
import org.springframework.http.ResponseEntity;
import org.springframework.web.bind.annotation.*;
import portal.MagicLink.Act;
import portal.MagicLink.Change;
import portal.MagicLink.Stop;
import portal.MagicLink.Visitor;

@SpringBootApplication(exclude = UserDetailsServiceAutoConfiguration.class)
public class App {
    public static void main(String[] arguments) {
        var listen = System.getenv().getOrDefault("PORTAL_LISTEN", "127.0.0.1:8081").split(":(?=\\d+$)");
        var app = new SpringApplication(App.class);
        app.setDefaultProperties(Map.of("server.address", listen[0], "server.port", listen[1], "magic-link.portal", "cloud",
            "magic-link.service", System.getenv().getOrDefault("PORTAL_SERVICE_URL", "http://127.0.0.1:8080"),
            "magic-link.public-url", System.getenv().getOrDefault("PORTAL_PUBLIC_URL", "http://127.0.0.1:8081"),
            "magic-link.key", System.getenv("PORTAL_CLOUD_KEY"), "magic-link.webhook-secret", System.getenv().getOrDefault("PORTAL_WEBHOOK_SECRET", "")));
        app.run(arguments);
    }
}

@RestController
@RequestMapping("/{tenant}/cloud")
class Pages {
    record Employee(String name, String bankAccount, String salary) {}

    private final Map<String, Employee> employees = new ConcurrentHashMap<>(Map.of("emp-9", new Employee("Nikhil Menon", "0072 0167 3390", "50000")));

    private static final Pattern CONTROL = Pattern.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029]");
    private static final Pattern FORMULA = Pattern.compile("((?:^|[;\\t\\r\\n])[ \"']*)(?=[=+\\-@\\t\\r\\n\\uff1d\\uff0b\\uff0d\\uff20])");     // where a spreadsheet sees one begin

    /** CSV in which a value stays in its cell, and is no formula to a spreadsheet, with whatever separator that reads it. */
    private ResponseEntity<String> table(Function<Employee, String> value) {
        var lines = employees.entrySet().stream().map(one -> Stream.of(one.getKey(), value.apply(one.getValue()))
            .map(cell -> '"' + FORMULA.matcher(cell).replaceAll("$1'").replace("\"", "\"\"") + '"').collect(Collectors.joining(",", "", "\r\n")));
        return ResponseEntity.ok().contentType(MediaType.parseMediaType("text/csv;charset=UTF-8")).body(lines.collect(Collectors.joining()));
    }

    private Employee find(String id) {
        if (!employees.containsKey(id)) throw Stop.noSuchPage();
        return employees.get(id);
    }

    @GetMapping("/")
    ResponseEntity<String> home(Visitor visitor) {
        return visitor.page("home", "Welcome, " + visitor.getName(), """
            <p><a href="employees/emp-9">An employee</a>, <a href="employees.csv">all of them as a file</a>, <a href="leave-policy">the leave policy</a></p>""");
    }

    @GetMapping("/employees/{id}")
    ResponseEntity<String> show(Visitor visitor, @PathVariable("id") String id) {
        var employee = find(id);
        visitor.report("employees", new Act("view", "employee.viewed", "employee", id, id, null, null));
        return visitor.page("employee", employee.name, """
            <form id="edit-employee" method="post"><p><label>Bank account <input name="bank_account" value="%s"></label></p>
            <p><label>Salary <input name="salary" value="%s"></label></p><button id="save">Save</button></form>
            """.formatted(MagicLink.escape(employee.bankAccount), MagicLink.escape(employee.salary)));
    }

    @PostMapping("/employees/{id}")
    synchronized ResponseEntity<String> edit(Visitor visitor, @PathVariable("tenant") String tenant, @PathVariable("id") String id,
                                             @RequestParam("bank_account") String bankAccount, @RequestParam("salary") String salary) {
        if (CONTROL.matcher(bankAccount + salary).find()) throw new Stop(422, "refused", "This cannot be saved", "It has a line break or another control character in it.");
        var employee = find(id);
        var changes = new ArrayList<Change>();  // under a lock, so that `before` is what the change really replaces; the report asks after the wait
        if (!employee.bankAccount.equals(bankAccount)) changes.add(new Change("bank_account", employee.bankAccount, bankAccount));
        if (!employee.salary.equals(salary)) changes.add(new Change("salary", employee.salary, salary));
        if (!changes.isEmpty()) {
            var category = employee.bankAccount.equals(bankAccount) ? null : "bank_account";
            visitor.report("employees", new Act("change", "employee.updated", "employee", id, id, category, List.copyOf(changes)));
            employees.put(id, new Employee(employee.name, bankAccount, salary));    // no pause between the record and the deed
        }
        return MagicLink.seeOther("/" + tenant + "/cloud/employees/" + id);
    }

    @GetMapping("/employees.csv")
    ResponseEntity<String> export(Visitor visitor) {
        visitor.report("employees", new Act("export", "employees.exported", "employee_list", "all", null, "export", null, List.copyOf(employees.keySet())));
        return table(Employee::name);
    }

    @GetMapping("/bank-accounts.csv")
    ResponseEntity<String> exportAccounts(Visitor visitor) {
        visitor.report("employees", new Act("export", "bank_accounts.exported", "employee_list", "all", null, "bank_account", null, List.copyOf(employees.keySet())));
        return table(Employee::bankAccount);
    }

    @GetMapping("/leave-policy")
    ResponseEntity<String> leavePolicy(Visitor visitor) {
        visitor.report("leave", new Act("view", "leave_policy.viewed", "leave_policy", "default", null, null, null));
        return visitor.page("leave-policy", "Leave policy", "<p>24 days a year.</p>");
    }
}
