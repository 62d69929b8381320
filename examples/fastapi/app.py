"""A make-believe portal behind the guard: `python app.py`. All data is invented, and gone on restart."""
import asyncio, csv, html, io, os, re

import uvicorn
from fastapi import Depends, FastAPI, Form
from fastapi.responses import RedirectResponse, Response

from magic_link import MagicLink, Stop, Visitor, page

app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lambda app: guard.lifespan(app))
guard = MagicLink(app, service=os.environ.get("PORTAL_SERVICE_URL", "http://127.0.0.1:8080"), key=os.environ["PORTAL_CLOUD_KEY"],
                  public_url=os.environ.get("PORTAL_PUBLIC_URL", "http://127.0.0.1:8081"), portal="cloud",
                  webhook_secret=os.environ.get("PORTAL_WEBHOOK_SECRET"))
employees = {"emp-9": {"name": "Nikhil Menon", "bank_account": "0072 0167 3390", "salary": "50000"}}
FORMULA = re.compile(r"""((?:^|[;\t\r\n])[ "']*)(?=[=+\-@\t\r\n＝＋－＠])""")     # where a spreadsheet sees one begin
change = asyncio.Lock()     # so that `before` in a report is what the change really replaces


def find(employee: str):
    if employee not in employees:
        raise Stop(404, "refused", "There is no such page")
    return employees[employee]


def table(rows):
    """CSV in which a value stays in its cell, and is no formula to a spreadsheet, with whatever separator that reads it."""
    text = io.StringIO()
    csv.writer(text).writerows([FORMULA.sub(r"\1'", cell) for cell in row] for row in rows)
    return Response(text.getvalue(), media_type="text/csv")


@app.get("/{tenant}/cloud/")
async def home(tenant: str, visitor: Visitor = Depends(guard.visitor)):
    root = guard.root(tenant)
    return page("home", f"Welcome, {visitor.session.profile['name']}", f'<p><a href="{root}employees/emp-9">An employee</a>, '
                f'<a href="{root}employees.csv">all of them as a file</a>, <a href="{root}leave-policy">the leave policy</a></p>', visitor=visitor)


@app.get("/{tenant}/cloud/employees/{employee}")
async def show(employee: str, visitor: Visitor = Depends(guard.visitor)):
    known = find(employee)
    await visitor.report("view", "employee.viewed", "employee", employee, module="employees", principal_id=employee)
    fields = "".join(f'<p><label>{name} <input name="{name}" value="{html.escape(known[name])}"></label></p>' for name in ("bank_account", "salary"))
    return page("employee", known["name"], f'<form id="edit-employee" method="post">{fields}<button id="save">Save</button></form>', visitor=visitor)


@app.post("/{tenant}/cloud/employees/{employee}")
async def edit(tenant: str, employee: str, bank_account: str = Form(), salary: str = Form(), visitor: Visitor = Depends(guard.visitor)):
    if re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", bank_account + salary):
        raise Stop(422, "refused", "This cannot be saved", "It has a line break or another control character in it.")
    async with change:      # waited for before the report, which asks once more
        known, wanted = find(employee), {"bank_account": bank_account, "salary": salary}
        changes = [{"field": name, "before": known[name], "after": value} for name, value in wanted.items() if known[name] != value]
        if changes:
            category = "bank_account" if known["bank_account"] != bank_account else None
            await visitor.report("change", "employee.updated", "employee", employee, module="employees", category=category,
                                 principal_id=employee, changes=changes)
            known.update(wanted)    # no pause between the record and the deed
    return RedirectResponse(f"{guard.root(tenant)}employees/{employee}", 303)


@app.get("/{tenant}/cloud/employees.csv")
async def export(visitor: Visitor = Depends(guard.visitor)):
    await visitor.report("export", "employees.exported", "employee_list", "all", module="employees", category="export", principal_ids=employees)
    return table([key, one["name"]] for key, one in employees.items())


@app.get("/{tenant}/cloud/bank-accounts.csv")
async def export_accounts(visitor: Visitor = Depends(guard.visitor)):
    await visitor.report("export", "bank_accounts.exported", "employee_list", "all", module="employees", category="bank_account", principal_ids=employees)
    return table([key, one["bank_account"]] for key, one in employees.items())


@app.get("/{tenant}/cloud/leave-policy")
async def leave_policy(visitor: Visitor = Depends(guard.visitor)):
    await visitor.report("view", "leave_policy.viewed", "leave_policy", "default", module="leave")
    return page("leave-policy", "Leave policy", "<p>24 days a year.</p>", visitor=visitor)


if __name__ == "__main__":
    host, port = os.environ.get("PORTAL_LISTEN", "127.0.0.1:8081").rsplit(":", 1)   # or unix:/a/path
    where = {"uds": port} if host == "unix" else {"host": host.strip("[]"), "port": int(port)}
    # No access log: its lines would hold the codes.
    uvicorn.run(app, **where, access_log=False, server_header=False)
